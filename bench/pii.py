"""How much personal data is found, by character, and how fast; beside vanilla Presidio with spaCy's small model.

    python bench/pii.py [--train] [--peer VENV] [--output bench/results/pii.json] [FILE …]

presidio-research's set is split by template: of ten parts six are learned from, four are reported on; --train makes the
model that comes with the trainer (model/english.crf) from the six anew. MultiDoGO is learned from nowhere. A character
counts where it is in any span and no blank; the type does not matter. VENV has presidio-analyzer and spaCy's
en_core_web_sm; it runs this file with --as-peer. One process, one thread.
"""

import argparse
import json
import subprocess
import sys
import time
from pathlib import Path

DATA = Path(__file__).resolve().parents[2] / "shared/data/pii"
FILES = ("presidio_synth_v2.json.gz", "multidogo_finance.dev.tsv.gz", "multidogo_insurance.dev.tsv.gz")
HELD_OUT_FROM, PARTS, SPREAD = 6, 10, 2654435761


def find_part(group: str) -> int:
    """Which of ten parts a template is in."""
    return int(group) * SPREAD % 2**32 % PARTS


def as_peer() -> None:
    """Texts on standard input, spans on standard output, as vanilla Presidio finds them; then the seconds it took."""
    from presidio_analyzer import AnalyzerEngine
    from presidio_analyzer.nlp_engine import NlpEngineProvider

    model = {"nlp_engine_name": "spacy", "models": [{"lang_code": "en", "model_name": sys.argv[2]}]}
    engine = AnalyzerEngine(nlp_engine=NlpEngineProvider(nlp_configuration=model).create_engine())
    texts = json.load(sys.stdin)
    engine.analyze(text=texts[0], language="en")
    began = time.perf_counter()
    found = [[(r.start, r.end) for r in engine.analyze(text=text, language="en")] for text in texts]
    json.dump({"spans": found, "seconds": time.perf_counter() - began}, sys.stdout)


def count(texts: list, found: list) -> dict[str, float]:
    """Recall and precision by character."""
    right = missed = wrong = 0
    for text, spans in zip(texts, found, strict=True):
        told, taken = set(), set()
        for span in text.spans:
            told.update(range(span.start, span.end))
        for start, end in spans:
            taken.update(range(start, end))
        blank = {i for i, character in enumerate(text.text) if character.isspace()}
        right += len((told & taken) - blank)
        missed += len(told - taken - blank)
        wrong += len(taken - told - blank)
    return {
        "characters": right + missed,
        "recall": round(right / (right + missed), 4),
        "precision": round(right / max(1, right + wrong), 4),
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("files", nargs="*", type=Path)
    parser.add_argument("--train", action="store_true")
    parser.add_argument("--peer", type=Path)
    parser.add_argument("--peer-model", default="en_core_web_sm")
    parser.add_argument("--output", type=Path, default=Path("bench/results/pii.json"))
    options = parser.parse_args()
    from provenance import describe_run

    from pilotage_trainer.privacy.finding import build_find
    from pilotage_trainer.privacy.learning import learn
    from pilotage_trainer.privacy.reading import read_texts
    from pilotage_trainer.privacy.tagger import MODEL, CrfTagger

    run = describe_run("python-crfsuite")
    files = options.files or [DATA / name for name in FILES]
    if options.train:
        learn([text for text in read_texts(DATA / FILES[0]) if find_part(text.group) < HELD_OUT_FROM], MODEL)
    find = build_find(CrfTagger())
    rows = []
    for path in files:
        texts = read_texts(path)
        if path.name == FILES[0]:
            texts = [text for text in texts if find_part(text.group) >= HELD_OUT_FROM]
        find(texts[0].text)
        began = time.perf_counter()
        found = [[(span.start, span.end) for span in find(text.text)] for text in texts]
        seconds = time.perf_counter() - began
        row = {"file": path.name, "texts": len(texts)}
        row["pilotage"] = count(texts, found) | {"texts_per_second": round(len(texts) / seconds)}
        if options.peer:
            command = [str(options.peer / "bin/python"), __file__, "--as-peer", options.peer_model]
            given = json.dumps([text.text for text in texts])
            done = subprocess.run(command, input=given, capture_output=True, text=True, check=True)
            peer = json.loads(done.stdout)
            row["presidio"] = count(texts, peer["spans"]) | {"texts_per_second": round(len(texts) / peer["seconds"])}
        rows.append(row)
        print(json.dumps(row))
    if options.peer:
        asked = "import importlib.metadata as m; print(m.version('presidio-analyzer'), m.version('spacy'))"
        told = subprocess.run(
            [str(options.peer / "bin/python"), "-c", asked], capture_output=True, text=True, check=True
        )
        run["versions"] |= dict(zip(("presidio-analyzer", "spacy"), told.stdout.split(), strict=True))
    options.output.write_text(json.dumps(run | {"rows": rows}, indent=2) + "\n")


if __name__ == "__main__":
    as_peer() if sys.argv[1:2] == ["--as-peer"] else main()
