"""From annotated texts to a model. Each text is learned as it is, and again with other names, places, numbers in it.

What is put in comes from the lists (words.py) and from other texts of the same set; and as chats are, some of it is
written in small letters.
"""

import random
import re
from collections.abc import Iterable, Iterator
from pathlib import Path

from pilotage_core.pii import PiiType, Span
from pilotage_trainer.privacy.features import Token, list_features, tokenize
from pilotage_trainer.privacy.reading import Text
from pilotage_trainer.privacy.tagger import OUTSIDE
from pilotage_trainer.privacy.words import list_values, read_words

SETTINGS = {"c1": 0.1, "c2": 0.05, "max_iterations": 150, "feature.possible_transitions": True, "feature.minfreq": 2}
COPIES, SMALL_SHARE, SEED = 6, 0.15, 1
TEMPLATES = """
hi, my name is {NAME} and i need help with my order
this is {NAME} speaking
you can call me {NAME}
i am {NAME}, a customer since {DATE}
my full name is {NAME}
it is under the name {NAME}
the account belongs to {NAME}
please send it to {NAME}, {PLACE}, {PLACE}
my address is {PLACE}, {PLACE}
we moved from {PLACE} to {PLACE} last month
i live in {PLACE}
ship it to {PLACE} please
the delivery to {PLACE} never came
is there a branch in {PLACE}?
I work for {ORGANIZATION} in {PLACE}.
Our company, {ORGANIZATION}, has {AGE} employees under contract with you.
{ORGANIZATION} charged me twice.
I bought it from {ORGANIZATION} and they sent me to you.
I am {AGE} years old.
My son is {AGE} and my daughter {AGE}.
She turned {AGE} in {PLACE}.
I work as a {TITLE}.
{TITLE} {NAME} told me to call you.
Could {TITLE} {NAME} call me back?
As a {TITLE} I need it by {DATE}.
I have a {GROUP} passport.
My wife is {GROUP}.
It was a {GROUP} restaurant in {PLACE}.
my date of birth is {DATE}
I was born on {DATE} in {PLACE}.
Thanks, {NAME}
Regards,
{NAME}
Dear {NAME},
Hello {NAME}! How can I help you today?
Is this {NAME}?
No, {NAME} is my husband.
The booking for {NAME} and {NAME} on {DATE}
please change the name from {NAME} to {NAME}
I talked to {NAME} from {ORGANIZATION} yesterday.
""".strip().splitlines()
"""Sentences of support as anybody would write them; taken from no data set."""
PLAIN = """
hii
hello sir
hi there, are you still there?
Good morning! How can I help you today?
Sure, give me a moment please.
May I have your order number?
This is about the bill I got last week.
Don't worry, I will wait.
I want to cancel my subscription and get my money back.
Where do I find the form on your website?
Please check the status of my claim again.
i need to order a new card as the old one is expired
my internet is very slow since the last update
The package arrived damaged, what can you do about it?
Is the shop open on Sunday?
That costs more than 20 dollars a month.
It says error 404 when I click on the button.
The total was 1250.50 and I was charged twice for it.
We have 3 cars, 2 dogs and a house with 5 rooms.
There were almost 12 million visitors in the first week.
the time was 330 pm and the amount 90
OK thanks, that was all. Have a nice day!
What are the opening hours of the nearest branch?
Nice, that works now. Perfect!
Can you tell me about the different insurance plans?
I would like to speak to a manager, please.
Yes, that is right. No, nothing else.
Sorry for the delay. One more question: how long does shipping take?
Why was my payment declined? The bank says all is fine.
I turned it off and on again, and it still does not start.
The new one is much better than the old one, she said.
My parents and four friends would come, too.
How do I reset my password? I never got the link.
Your agent was rude and hung up on me!
Unfortunately, we cannot change that after the booking.
Congratulations on the new product, I love it.
Which of the two would you recommend for beginners?
All our lines are busy; please hold.
Then select Settings, Account, and Change Plan.
Terms and Conditions apply.
""".strip().splitlines()
"""The same with nothing personal in them; also sentences of Python's own help are learned as such."""
ADDRESSES = ("Mr.", "Mrs.", "Ms.", "Miss", "Dr.", "Prof.", "Sir", "Madam", "Mr", "Mrs")
ROADS = ("Street", "Road", "Avenue", "Lane", "Drive", "Way", "Court", "St", "Ave", "Rd")
LEARNED = frozenset(
    {PiiType.NAME, PiiType.PLACE, PiiType.ORGANIZATION, PiiType.GROUP, PiiType.TITLE, PiiType.AGE, PiiType.DATE}
    | {PiiType.PHONE, PiiType.ID}
)
"""What rules do not tell, or not alone."""


def learn(texts: Iterable[Text], path: Path, copies: int = COPIES, seed: int = SEED) -> None:
    """Fit a tagger to `texts` and write it to `path`. The same texts and seed give the same model."""
    import pycrfsuite

    trainer = pycrfsuite.Trainer(verbose=False)
    trainer.set_params(SETTINGS)
    for text in vary(list(texts), copies, random.Random(seed)):
        tokens = tokenize(text.text)
        if tokens:
            trainer.append(list_features(tokens), list_labels(tokens, text.spans))
    path.parent.mkdir(parents=True, exist_ok=True)
    trainer.train(str(path))


def list_labels(tokens: list[Token], spans: Iterable[Span]) -> list[str]:
    """B-TYPE, I-TYPE or O for each token; one that a span touches is in it."""
    labels = [OUTSIDE] * len(tokens)
    for span in (span for span in spans if span.type in LEARNED):
        begun = False
        for i, (_, start, end) in enumerate(tokens):
            if start < span.end and end > span.start:
                labels[i] = f"{'I' if begun else 'B'}-{span.type.value}"
                begun = True
    return labels


def vary(texts: list[Text], copies: int, draw: random.Random) -> Iterator[Text]:
    """`texts` as they are, then `copies` of each with other values, then what TEMPLATES make."""
    values = _Values(texts, draw)
    for text in texts:
        yield text
        for _ in range(copies if text.spans else 1):
            yield _soften(_exchange(text, values), draw)
    for _ in range(copies * 3):
        for template in TEMPLATES:
            yield _soften(_fill(template, values), draw)
    for number, sentence in enumerate((*PLAIN, *_list_prose())):
        for words in (sentence, sentence.lower()):
            yield Text(f"plain {number}", words, ())


def _list_prose() -> Iterator[str]:
    from pydoc_data.topics import topics

    text = " ".join(" ".join(topics[name].split()) for name in sorted(topics))
    sentences = re.findall(r"(?<=\. )[A-Z][a-z][^.`\"=_(){}\[\]<>]{30,160}\.(?= )", text)
    yield from sentences[:600]


class _Values:
    """Values of each type: half from the lists, half from the texts."""

    def __init__(self, texts: list[Text], draw: random.Random) -> None:
        self._draw = draw
        self._lists = {
            kind: list_values(kind) for kind in ("first", "last", "city", "country", "company", "job", "street")
        }
        self._peoples = sorted(word for word, kinds in read_words().items() if "people" in kinds)
        self._seen: dict[PiiType, list[str]] = {}
        for text in texts:
            for span in text.spans:
                self._seen.setdefault(span.type, []).append(text.text[span.start : span.end])

    def draw(self, type_: PiiType) -> str:
        """One of `type_`."""
        seen = self._seen.get(type_)
        if seen and self._draw.random() < 0.5:
            return self._draw.choice(seen)
        made = self._make(type_)
        return made or (self._draw.choice(seen) if seen else type_.value.lower())

    def _make(self, type_: PiiType) -> str:
        pick = self._draw.choice
        match type_:
            case PiiType.NAME:
                return self._make_name()
            case PiiType.PLACE:
                return self._make_place()
            case PiiType.ORGANIZATION:
                one, other, suffix = (pick(self._lists[kind]) for kind in ("last", "last", "company"))
                legal = f"{one} {pick((suffix, suffix, 'Inc', 'Inc.', 'Ltd', 'LLC', 'Group', 'Bank'))}"
                return pick((legal, legal, f"{one}-{other}", f"{one}, {other} and Co", f"{one} & {other}"))
            case PiiType.TITLE:
                return pick((pick(self._lists["job"]), pick(ADDRESSES)))
            case PiiType.GROUP:
                return pick(self._peoples).title()
            case PiiType.AGE:
                return str(self._draw.randint(2, 99))
        return ""

    def _make_name(self) -> str:
        first, last = (self._draw.choice(self._lists[kind]) for kind in ("first", "last"))
        initial = f"{self._draw.choice('ABCDEFGHJKLMNPRSTVW')}{self._draw.choice(('', '.'))}"
        whole = f"{first} {last}"
        return self._draw.choice((first, last, whole, whole, f"{first} {initial} {last}", f"{initial} {last}"))

    def _make_place(self) -> str:
        pick, number = self._draw.choice, self._draw.randint
        city, country, street, last = (pick(self._lists[kind]) for kind in ("city", "country", "street", "last"))
        road, code = pick(ROADS), str(number(10000, 99999))
        line = pick(
            (f"{number(1, 9999)} {last} {road}", f"{last} {road} {number(1, 300)}", f"{street} {number(1, 200)}")
        )
        made = (line, line, f"{number(1, 9999)} {street} {road}", f"Apt. {number(1, 999)}", code)
        return pick(
            (city, country, city, country, *made, f"{city}, {country}", f"{code} {city}", f"{line}, {city}, {code}")
        )


def _exchange(text: Text, values: _Values) -> Text:
    """`text` with another value of the same type for each span."""
    return _put([(text.text[a:b], None) if s is None else (values.draw(s), s) for a, b, s in _part(text)], text.id)


def _part(text: Text) -> Iterator[tuple[int, int, PiiType | None]]:
    at = 0
    for span in text.spans:
        if span.start > at:
            yield at, span.start, None
        if span.start >= at:
            yield span.start, span.end, span.type
            at = span.end
    yield at, len(text.text), None


def _fill(template: str, values: _Values) -> Text:
    parts: list[tuple[str, PiiType | None]] = []
    for part in template.split("{"):
        name, closed, rest = part.partition("}")
        parts += [(values.draw(PiiType(name)), PiiType(name)), (rest, None)] if closed else [(part, None)]
    return _put(parts, template)


def _put(parts: list[tuple[str, PiiType | None]], name: str) -> Text:
    text, spans = "", []
    for words, type_ in parts:
        if type_ is not None and words:
            spans.append(Span(len(text), len(text) + len(words), type_))
        text += words
    return Text(name, text, tuple(spans))


def _soften(text: Text, draw: random.Random) -> Text:
    """Sometimes all in small letters, where that leaves every character in its place."""
    small = text.text.lower()
    if draw.random() >= SMALL_SHARE or len(small) != len(text.text):
        return text
    return Text(text.id, small, text.spans, text.group)
