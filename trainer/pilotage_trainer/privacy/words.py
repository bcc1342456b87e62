"""Words that are known to be names, places, parts of companies, professions, streets, peoples: by kind.

`python -m pilotage_trainer.privacy.words` gathers them from Faker (MIT; some sixty locales in Latin script) and
from the peoples below, into model/words.txt.gz. Nothing of a data set that figures are reported on is in them.
"""

import gzip
import re
import sys
from collections.abc import Iterator
from functools import cache
from pathlib import Path

FILE = Path(__file__).parent / "model" / "words.txt.gz"
LANGUAGES = frozenset(
    {"ca", "cs", "da", "de", "en", "es", "et", "fi", "fr", "ga", "hr", "hu", "is", "it", "lt", "lv", "nl", "no", "pl"}
    | {"pt", "ro", "sk", "sl", "sv", "tr"}
)
KINDS = ("first", "last", "city", "country", "company", "job", "street", "people", "common")
LITTLE = """
the of and in a to de la el der die das di du van von le les or for on at by with y e et und an is as it no i o
"""
COMMON = frozenset(LITTLE.split())
PEOPLES = """
afghan albanian algerian american andorran angolan argentine argentinian armenian australian austrian azerbaijani
bahamian bahraini bangladeshi barbadian basque belarusian belgian belizean bengali berber bhutanese bolivian bosnian
botswanan brazilian british bulgarian burkinabe burmese burundian cambodian cameroonian canadian catalan chadian
chilean chinese colombian comorian congolese corsican croatian cuban cypriot czech danish djiboutian dominican dutch
ecuadorian egyptian emirati english eritrean estonian ethiopian european fijian filipino finnish flemish french
gabonese gambian georgian german ghanaian greek greenlandic grenadian guatemalan guinean guyanese haitian hawaiian
hispanic honduran hungarian icelandic indian indonesian iranian iraqi irish israeli italian ivorian jamaican japanese
jordanian kazakh kenyan korean kosovar kurdish kuwaiti kyrgyz laotian latino latvian lebanese liberian libyan
liechtensteiner lithuanian luxembourgish macedonian malagasy malawian malaysian maldivian malian maltese mauritanian
mauritian mexican moldovan monegasque mongolian montenegrin moroccan mozambican namibian nepalese nepali nicaraguan
nigerian nigerien norwegian omani pakistani palestinian panamanian paraguayan persian peruvian polish portuguese
punjabi qatari quebecois romani romanian russian rwandan salvadoran sami samoan saudi scandinavian scottish senegalese
serbian serb singaporean slovak slovakian slovene slovenian somali spanish sudanese surinamese swede swedish swiss
syrian taiwanese tajik tamil tanzanian thai tibetan togolese tongan trinidadian tunisian turk turkish turkmen ugandan
ukrainian uruguayan uzbek venezuelan vietnamese welsh yemeni zambian zimbabwean african asian arab arabic jewish
muslim christian catholic protestant orthodox buddhist hindu sikh atheist mormon baptist lutheran methodist
evangelical democrat republican conservative liberal socialist communist pole dane finn spaniard briton scot frenchman
englishman irishman dutchman
"""


@cache
def read_words() -> dict[str, tuple[str, ...]]:
    """Word (lower case) to the kinds it is of. Raises OSError where the list is not there."""
    found: dict[str, tuple[str, ...]] = {}
    with gzip.open(FILE, "rt", encoding="utf-8") as file:
        for line in file:
            word, _, kinds = line.rstrip("\n").partition("\t")
            found[word] = tuple(KINDS[int(place)] for place in kinds)
    return found


def gather_words() -> dict[str, set[str]]:
    """Words by kind, from Faker and PEOPLES."""
    found: dict[str, set[str]] = {kind: set() for kind in KINDS}
    found["people"].update(PEOPLES.split())
    found["common"].update(_list_common())
    for kind, text in _all_values():
        found[kind].update(word.lower() for word in re.findall(r"[^\W\d_]{2,}", text))
    return {kind: words if kind == "common" else words - COMMON for kind, words in found.items()}


def _list_common() -> Iterator[str]:
    """Words that anybody uses, in small letters hardly ever a name: Faker's, and those of Python's own help."""
    from pydoc_data.topics import topics

    from faker.providers.lorem.en_US import Provider

    yield from (word.lower() for word in Provider.word_list)
    yield from COMMON
    text = " ".join(topics.values())
    yield from {word for word in re.findall(r"\b[a-z]{3,}\b", text) if text.count(f" {word} ") > 1}


def list_values(kind: str) -> list[str]:
    """Whole values of a kind, for texts that are made up."""
    return sorted({text for of, text in _all_values() if of == kind and re.search(r"[^\W\d_]", text)})


@cache
def _all_values() -> tuple[tuple[str, str], ...]:
    import warnings

    from faker import Faker
    from faker.config import AVAILABLE_LOCALES

    found = []
    for locale in sorted(name for name in AVAILABLE_LOCALES if name.split("_")[0] in LANGUAGES):
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            providers = Faker(locale).get_providers()
        for provider in providers:
            for name in sorted(dir(provider)):
                kind = _find_kind(provider.__class__.__module__, name)
                if kind:
                    found += [(kind, text) for text in _flatten(getattr(provider, name))]
    return tuple(found)


def _find_kind(module: str, name: str) -> str:
    """Which of our kinds an attribute of one of Faker's providers lists."""
    starts = {
        ".person.": (("first_name", "first"), ("last_name", "last")),
        ".address.": (
            (("cities", "city_name", "city", "municipal", "town", "communes"), "city"),
            (("state", "province", "region", "depart", "county", "counties", "district"), "city"),
            (("countr",), "country"),
            (("street", "road"), "street"),
        ),
        ".company.": (("company_suffix", "company"),),
        ".job.": (("jobs", "job"),),
    }
    for part, rules in starts.items():
        if part in module and "abbr" not in name and "code" not in name and "format" not in name:
            return next((kind for start, kind in rules if name.startswith(start)), "")
    return ""


def _flatten(value: object) -> Iterator[str]:
    if isinstance(value, str):
        if "{{" not in value and len(value) < 60:
            yield value
    elif isinstance(value, dict):
        yield from _flatten(list(value))
    elif isinstance(value, list | tuple):
        for each in value:
            yield from _flatten(each)


def main() -> None:
    """Write the list."""
    of: dict[str, str] = {}
    for place, kind in enumerate(KINDS):
        for word in gather_words()[kind]:
            of[word] = of.get(word, "") + str(place)
    FILE.parent.mkdir(exist_ok=True)
    text = "".join(f"{word}\t{of[word]}\n" for word in sorted(of))
    FILE.write_bytes(gzip.compress(text.encode(), mtime=0))
    sys.stderr.write(f"{len(of)} words in {FILE}\n")


if __name__ == "__main__":
    main()
