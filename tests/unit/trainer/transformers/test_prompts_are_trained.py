"""From a PolicyCritic to a gateway's prompt: a policy is asked with the very text that it was trained on."""

import json
from dataclasses import replace

import msgspec
import pytest
from stubs.gateway import Case, StubController, build_snapshot, run_controller, run_gateway, run_models
from unit.operator_.facts import make_bundle
from unit.trainer.conftest import KEY

from pilotage_core.dialog import DEFAULT_FORMAT, DialogFormat, SnapshotKind
from pilotage_core.record import SessionRecord
from pilotage_core.stage import Stage
from pilotage_core.walk import walk_session
from pilotage_core.wire import JobResult
from pilotage_operator.api.policy_critic import PolicyCriticSpec
from pilotage_operator.api.status import DialogStatus, PairStatus
from pilotage_operator.decide.leave import build_leave
from pilotage_operator.manifests.job import build_train_config
from pilotage_trainer.artefact import read_manifest
from pilotage_trainer.backends.transformers.policy.job import run_policy
from pilotage_trainer.backends.transformers.rows.choice import DatasetRequest
from pilotage_trainer.backends.transformers.rows.job import run_dataset
from pilotage_trainer.backends.transformers.rows.shards import read_rows
from pilotage_trainer.backends.transformers.rows.tokenizer import load_tokenizer
from pilotage_trainer.config import read_config
from pilotage_trainer.results import shorten_result
from pilotage_trainer.window import Window

LONG = DialogFormat(SnapshotKind.DIFFERENCE, 60_000, 20_000)
POLICY = {
    "epochs": 1, "globalBatch": 1, "learningRate": "0.004", "warmUpBatches": 1, "precision": "fp32",
    "activationCheckpointing": False,
}  # fmt: skip
SHAPE = {"hidden": 32, "layers": 1, "heads": 1, "keyValueHeads": 1, "intermediate": 32, "vocabulary": 600}


def read_bundle(dataset):
    spec = {"backend": "transformers", "baseModel": "", "selection": {"policyDevelopmentShare": "0.2"}}
    spec["transformers"] = {"policy": POLICY, "shape": SHAPE, "dataset": {"maxTokens": 2048, **dataset}}
    return replace(make_bundle(), policy_critic=PolicyCriticSpec.model_validate(spec))


async def ask_gateway(bundle, result: JobResult, record: SessionRecord, folder) -> tuple[list[str], SessionRecord]:
    """What the gateway asks the pair of `result` while `record` happens, and the record it keeps."""
    told = msgspec.json.decode(shorten_result(result), type=JobResult)
    async with run_models() as models:
        models.action = None
        made = PairStatus(
            revision="r1",
            policy_digest=told.digests["policy"],
            policy_url=models.url,
            dialog=DialogStatus.of(told.dialog),
        )
        pair = PairStatus.model_validate(json.loads(json.dumps(made.to_json())))
        leave = build_leave(bundle, Stage.COPILOT, pair, (), finalizing_by_human=True, audits_all=False)
        controller = StubController(build_snapshot(leave))
        controller.write_key(folder / "keys")
        async with (
            run_controller(controller) as url,
            run_gateway(f"sqlite:///{folder}/gateway.db", url, folder / "keys") as gateway,
        ):
            await gateway.until_permit()
            case = Case(gateway)
            for event in record.events:
                await case.post(event.data)
            _, kept = await gateway.get(f"/v1/sessions/{case.session_id}")
        return models.prompts, msgspec.convert(kept, SessionRecord)


@pytest.mark.parametrize("prepared", [False, True])
async def test_a_policy_is_asked_with_the_text_it_was_trained_on(make_sessions, write_export, tmp_path, prepared):
    records = make_sessions(20)
    export = write_export(records)
    wanted = {"snapshot": "difference", "maxChars": 60_000}
    bundle = read_bundle({} if prepared else wanted)
    config, dataset = read_config(build_train_config(bundle)), None
    if prepared:  # in a format of its own: what was prepared is what will be asked
        dataset = tmp_path / "set"
        own = read_config(build_train_config(read_bundle(wanted))).transformers.dataset
        run_dataset(DatasetRequest(export, dataset, KEY, vocabulary=600, settings=own, development_share=0.2))
    window = Window(export, KEY, "r1", tmp_path / "out")
    result = run_policy(window, config, dataset)
    manifest = read_manifest(window.folder("policy"))
    assert result.dialog == manifest.dialog == LONG
    assert manifest.prompt_format == result.digests["prompt_format"] == LONG.digest

    prompts, kept = await ask_gateway(bundle, result, records[0], tmp_path)
    trained = [point.prompt for point in walk_session(records[0], LONG)]
    assert len(trained) > 4
    assert set(trained) <= set(prompts)
    assert [point.prompt for point in walk_session(kept, LONG)] == trained
    assert not set(prompts) & {point.prompt for point in walk_session(kept, DEFAULT_FORMAT) if "%" in point.prompt}
    if prepared:
        tokenizer = load_tokenizer(dataset / "tokenizer")
        texts = [tokenizer.decode(row["input_ids"]) for row in read_rows(dataset, "train")]
        assert all(any(prompt in text for text in texts) for prompt in trained)
