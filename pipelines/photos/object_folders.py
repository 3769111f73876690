"""Decides from the folders of photos which photos show the same object.

A rule maps each photo in a folder to an object:

| rule | an object is |
|---|---|
| folders | each folder that directly contains photos |
| splits | the same, with train, val, test and similar names removed from the path: train/a and test/a are one object |
| names | all folders with the same name, wherever they are: europe/bridge and asia/bridge are one object |
| top | each folder at the first level with several folders, with all photos below it |

The rule `auto` takes `folders`, or `splits` if a whole level of folders has names of splits. It raises an error if the
tree suggests that the folders are not objects, or that one object is in several folders:

- there are photos both outside and inside of folders, or all photos are in one folder
- a folder contains both photos and folders of photos, or folders in different folders have the same name
- two folders side by side have the same name but for case, Unicode form, "copy", "(2)" or a year
- names of datasets (`queries`, `train` beside other folders) or of judgements (`positive`, `junk`, `misc`)
- names of dates, months, cameras, apps, numbered parts, views, seasons or versions of photos
- parts of hash values, such as 0/a/b or the first characters of file names

Numbers such as 0001 and names such as 001.albatross are objects. Photos outside of any folder belong to no object.
"""

import re
import unicodedata
from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

from keras_retrieval.errors import printable

from ..files.remote import named
from .formats import PhotoFolderError

AUTO = "auto"
RULES = (AUTO, "folders", "splits", "names", "top")
"""The values of the option --objects."""

Folder = tuple[str, ...]
"""The path of a folder of photos, as its parts."""

_SHORT = 3  # the most characters of a part of a hash value as a folder's name
_MANY = 0.5  # the share of the folders of a level above which a name that may be an object's is not taken for one


class ObjectFoldersError(PhotoFolderError):
    """The folders of photos do not show which photos are of the same object; the message says what would decide it."""


@dataclass(frozen=True)
class Objects:
    """Photos by the object that they show.

    Attributes:
        photos: maps each object, sorted, to the names of its photos. The name of an object is a path of folders with /
            as the separator.
        outside: names of the photos outside of any folder, which belong to no object.
        rule: the rule by which objects were found; not "auto".
        account: one sentence that says which folders were taken for objects.
    """

    photos: dict[str, list[str]]
    outside: list[str]
    rule: str
    account: str

    @property
    def of_photo(self) -> dict[str, str]:
        """Maps the name of each photo that shows an object to the object."""
        return {name: one for one, names in self.photos.items() for name in names}


def find_objects(
    names: Iterable[str], place: Path | str, rule: str = AUTO, *, least: int = 2, pairs: bool = True
) -> Objects:
    """Finds the objects of photos by their folders; see the module for the rules.

    Args:
        names: the names of the photos, relative to the folder of the photos, with / as the separator.
        place: the folder of the photos, or another thing that contains them, for the messages.
        rule: one of `RULES`.
        least: the least number of objects that "auto" accepts.
        pairs: whether at least one object must have two photos.

    Returns:
        The photos by object.

    Raises:
        ObjectFoldersError: no photo is in a folder; or the rule is "auto", and the folders do not show what is an
            object; or each object has one photo, although pairs are needed.
    """
    tree = _Tree(names)
    place = named(place) if isinstance(place, Path) else place
    if not tree.folders:
        raise ObjectFoldersError(
            f"{place} has no sub-folders with photos, so that it is unknown which photos show one object: put the "
            "photos of each object in one folder"
        )
    objection = None
    if rule == AUTO:
        rule = "splits" if tree.split_levels else "folders"
        objection = tree.objection(least)
    photos = tree.objects(rule)
    if objection is None and pairs and max(map(len, photos.values())) < 2:
        objection = f"each of the {len(photos):,} objects has one photo only, so that no two photos show the same"
    if objection is not None:
        raise ObjectFoldersError(f"{place}: {objection}{tree.choices(pairs)}")
    return Objects(photos, tree.outside, rule, f"{printable(place)}: {_account(photos, tree, rule)}")


def splits(names: Iterable[str]) -> dict[str, str]:
    """Returns the split that each photo belongs to, if all folders at one level have names of splits.

    Args:
        names: the names of the photos, with / as the separator.

    Returns:
        A dict from the name of each photo to the name of its split, such as "train"; empty if there is no such level.
    """
    tree = _Tree(names)
    if not tree.split_levels or tree.outside:
        return {}
    level = tree.split_levels[0]
    return {name: folder[level] for folder, photos in tree.folders.items() for name in photos}


def _account(photos: Mapping[str, Sequence[str]], tree: "_Tree", rule: str) -> str:
    first, its_photos = next(iter(photos.items()))
    counted = _numbered(len(its_photos), "photo")
    found = _numbered(len(photos), "object")
    splits = _listed(sorted({folder[level] for level in tree.split_levels for folder in tree.folders}))
    said = {
        "folders": f"{found}, each folder with photos is one",
        "splits": f"{found}, folders of the same path in {splits or 'the splits'} are one",
        "names": f"{found}, all folders of the same name are one",
        "top": f"{found}, each folder at the first level is one",
    }[rule]
    said += f"; the first: {printable(first)} ({counted})"
    if rule == "folders" and max(map(len, tree.below)) > 1:
        said += f"; --objects top would take the {len(tree.objects('top')):,} folders at the first level"
    single = sum(len(one) == 1 for one in photos.values())
    said += f"; {single:,} of them with one photo only" if single else ""
    outside = _numbered(len(tree.outside), "photo")
    return said + (f"; {outside} outside of folders left out" if tree.outside else "")


def _numbered(count: int, noun: str) -> str:
    return f"{count:,} {noun}{'' if count == 1 else 's'}"


def _listed(names: Sequence[str], most: int = 3) -> str:
    """Lists names as text: "train, test and val", "2017, 2018, 2019 and 4 more"."""
    shown = [printable(name) for name in names]
    if len(shown) > most:
        return f"{', '.join(shown[:most])} and {len(shown) - most:,} more"
    return " and ".join([", ".join(shown[:-1]), shown[-1]] if len(shown) > 1 else shown)


class _Tree:
    """The folders of photos.

    Attributes:
        folders: maps each folder that directly contains photos to the names of these photos.
        outside: names of the photos that are in no folder.
        base: the folders that all folders have in common, the last one excepted if it contains photos itself.
        below: the folders without `base`.
        split_levels: the indexes of the parts in a folder's path that are the names of a split in every folder.
    """

    def __init__(self, names: Iterable[str]) -> None:
        found: dict[Folder, list[str]] = defaultdict(list)
        for name in names:
            found[tuple(name.split("/")[:-1])].append(name)
        self.outside = found.pop((), [])
        self.folders = dict(sorted(found.items()))
        shortest = min(map(len, self.folders), default=1)
        levels = list(zip(*self.folders, strict=False))[: shortest - 1]
        self.base = next((row for row, parts in enumerate(levels) if len(set(parts)) > 1), len(levels))
        self.below = [folder[self.base :] for folder in self.folders]
        self.split_levels = self._split_levels(shortest)

    def _split_levels(self, shortest: int) -> list[int]:
        levels = []
        for level in range(self.base, shortest):
            names = {folder[level] for folder in self.folders}
            if len(names) > 1 and all(map(_is_split, names)):
                levels.append(level)
        return levels

    def objects(self, rule: str) -> dict[str, list[str]]:
        """Groups the photos in folders by the object that a rule finds."""
        key: Callable[[Folder], Folder] = {
            "folders": lambda folder: folder,
            "splits": self._without_splits,
            "names": lambda folder: folder[-1:],
            "top": lambda folder: folder[: self.base + 1],
        }[rule]
        found: dict[str, list[str]] = defaultdict(list)
        for folder, names in self.folders.items():
            found["/".join(key(folder))] += names
        return {one: sorted(names) for one, names in sorted(found.items())}

    def _without_splits(self, folder: Folder) -> Folder:
        """Removes the names of splits; a folder without another name is kept."""
        levels = self.split_levels or [row for row, name in enumerate(folder) if _is_split(name)]
        return tuple(name for row, name in enumerate(folder) if row not in levels) or folder

    def choices(self, pairs: bool) -> str:
        """Lists the rules that can be chosen with --objects, and the number of objects by each."""
        said: list[str] = []
        seen: list[dict[str, list[str]]] = []
        texts = {
            "folders": "each folder with photos",
            "top": "each folder at the first level",
            "names": "folders of the same name",
            "splits": "as folders, but train/a and test/a as one",
        }
        for rule, text in texts.items():
            found = self.objects(rule)
            if [*found.values()] in [[*one.values()] for one in seen] or (pairs and max(map(len, found.values())) < 2):
                continue
            seen.append(found)
            said.append(f"{rule} ({text}: {_numbered(len(found), 'object')})")
        if not said:
            return ": put all photos of an object in one folder"
        left_out = f"; photos outside of folders ({len(self.outside):,}) are then left out" if self.outside else ""
        return f": say with --objects what is an object: {', '.join(said)}{left_out}"

    def objection(self, least: int) -> str | None:
        """Says why folders are not objects, or None."""
        if self.outside:
            return (
                f"{_numbered(len(self.outside), 'photo')} outside of folders, such as {printable(self.outside[0])}, "
                f"beside {_numbered(len(self.folders), 'folder')} with photos"
            )
        if len(self.folders) < least:
            only = printable("/".join(next(iter(self.folders))))
            return f"all photos are in one folder, {only}, which would be the only object"
        if self.split_levels and len(self.objects("splits")) < least:
            only = printable(next(iter(self.objects("splits"))))
            return f"all photos are of one object, {only}, in the folders of several splits"
        return self._names_of_no_objects() or self._hashes() or self._one_object_twice()

    def _levels(self) -> list[dict[Folder, str]]:
        """For each level below the base: maps the path of each folder at this level to its name."""
        deepest = max(map(len, self.folders))
        return [
            {folder[: level + 1]: folder[level] for folder in self.folders if len(folder) > level}
            for level in range(self.base, deepest)
        ]

    def _names_of_no_objects(self) -> str | None:
        for level, paths in enumerate(self._levels(), start=self.base):
            names = sorted(set(paths.values()))
            if queries := [name for name in names if _QUERIES.fullmatch(name)]:
                others = [name for name in names if name not in queries]
                beside = f" beside {_listed(others)}" if others else ""
                return (
                    f"the folder {_listed(queries)}{beside} is the division of a dataset for a search, and no object "
                    "(if photos have positions, they belong in their names, @east@north@...@.jpg, or in a CSV file)"
                )
            if level not in self.split_levels and (splits := _splits_among(names)):
                return f"{_folders(splits)} a split of a dataset and no object, among other folders"
            if level in self.split_levels and all(len(folder) == 1 for folder in self.below):
                return f"{_folders(names)} the splits of a dataset and no objects"
            for strict, said, matches in _KINDS:
                found = [path for path in paths if matches(path)]
                many = len(found) >= max(2, _MANY * len(paths))
                if found and (strict or many):
                    shown = sorted({path[-1] for path in found})
                    return f"{_folders(shown)} {said}"
        return None

    def _hashes(self) -> str | None:
        tails = [tail for folder in self.folders if len(tail := _hexadecimal_tail(folder)) > 1]
        characters = "".join(part for tail in tails for part in tail)
        if len(tails) >= _MANY * len(self.folders) and (re.search("[a-fA-F]", characters) or min(map(len, tails)) > 2):
            return f"folders such as {'/'.join(tails[0])} look like the parts of a hash value"
        names = {folder[0] for folder in self.below}
        width = max(map(len, names))
        if (
            all(len(folder) == 1 and re.fullmatch("[0-9a-fA-F]{1,2}", folder[0]) for folder in self.below)
            and len(names) >= 16**width / 2
            and re.search("[a-fA-F]", "".join(names))
        ):
            return f"{_folders(sorted(names))} all hexadecimal numbers, as hash values are divided into folders"
        if example := self._first_characters():
            return f"folders such as {example} are the first or last characters of the names of their files"
        return None

    def _first_characters(self) -> str | None:
        """An example of a folder whose parts are the first or last characters of file names, if nearly all are."""
        agree, example = 0, ""
        for folder, names in self.folders.items():
            parts = [folder[start:] for start in range(len(folder)) if max(map(len, folder[start:])) <= _SHORT]
            for name in names if parts else ():
                stem = PurePosixPath(name).stem.lower()
                if any(_is_part_of(stem, part) for part in parts):
                    agree, example = agree + 1, example or "/".join(folder)
        total = sum(map(len, self.folders.values()))
        return printable(example) if agree >= 0.9 * total else None

    def _one_object_twice(self) -> str | None:
        for folder in self.folders:
            for depth in range(1, len(folder)):
                if folder[:depth] in self.folders:
                    outer, inner = printable("/".join(folder[:depth])), printable("/".join(folder))
                    return f"{outer} contains both photos and folders of photos, such as {inner}"
        keys = list(map(self._without_splits, self.folders)) if self.split_levels else list(self.folders)
        keys = sorted(set(keys))
        alike: dict[Folder, list[Folder]] = defaultdict(list)
        for key in keys:
            alike[(*key[:-1], _bare(key[-1]))].append(key)
        for same in alike.values():
            if len(same) > 1:
                shown = _listed(["/".join(key) for key in same])
                return f"the folders {shown} have one name but for case, a year, or what marks a copy"
        count = Counter(key[-1] for key in keys)
        name, times = count.most_common(1)[0]
        if times > 1:
            shown = _listed(["/".join(key) for key in keys if key[-1] == name])
            return f"{times:,} folders are named {printable(name)}: {shown}, one object or {times:,}"
        return None


def _folders(names: Sequence[str]) -> str:
    return f"the folder {_listed(names)} is" if len(names) == 1 else f"the folders {_listed(names)} are"


# Names by which a level of folders is recognised ---------------------------------------------------------------------

_QUERIES = re.compile(r"\d*quer(y|ies)([-_ .]?(v?\d+|real|images|photos|subset.*))?", re.IGNORECASE)
_SPLIT = re.compile(
    r"(train(ing|[-_]?val)?|test(ing)?|val(id(ation)?)?|dev|eval(uation)?|hold-?out)"
    r"([-_ ]?(sets?|data|images|photos|split|v?\d+))?",
    re.IGNORECASE,
)
_YEAR = r"(?:1[89]|20)\d\d"
_MONTH, _DAY = r"(?:0[1-9]|1[0-2])", r"(?:0[1-9]|[12]\d|3[01])"
_DATE = re.compile(
    rf"{_YEAR}[-_. ]{_MONTH}(?!\d)([-_. ]{_DAY})?(?!\d).*|{_YEAR}{_MONTH}{_DAY}(?=[-_ T]).*"
    rf"|{_DAY}[-_. ]{_MONTH}[-_. ]{_YEAR}(?!\d).*|photos from {_YEAR}|{_YEAR}[-_ ]q[1-4]",
    re.IGNORECASE,
)
_BARE_DATE = re.compile(rf"{_YEAR}|{_YEAR}{_MONTH}({_DAY})?_*[a-z]?|{_YEAR}[-_. ].*")
_MONTH_NAME = re.compile(
    r"(\d{1,2}[-_. ]*)?(jan(uary)?|feb(ruary)?|mar(ch)?|apr(il)?|may|june?|july?|aug(ust)?|sept?(ember)?|oct(ober)?"
    r"|nov(ember)?|dec(ember)?|januar|februar|m(ä|ae)rz|mai|juni|juli|okt(ober)?|dez(ember)?|janvier|f(é|e)vrier|mars"
    r"|avril|juin|juillet|ao(û|u)t|septembre|octobre|novembre|d(é|e)cembre"
    r"|mon(day)?|tues?(day)?|wed(nesday)?|thu(rsday)?|fri(day)?|sat(urday)?|sun(day)?)([-_. ]*(\d\d|\d{4}))?",
    re.IGNORECASE,
)
_CAMERA = re.compile(
    r"dcim|camera( ?roll| uploads)?|(?-i:[1-9]\d\d(?=[0-9_]*[A-Z])[0-9A-Z_]{5})|(whatsapp|telegram)( images| photos)?"
    r"|screenshots?|instagram|downloads?|pictures|my pictures|saved pictures|i?phone|icloud( photos)?|google photos"
    r"|takeout|dropbox|onedrive|recents|favorites|favourites|bluetooth|edited|new folder( \(\d+\))?"
    r"|untitled folder( \d+)?",
    re.IGNORECASE,
)
_NO_OBJECT = re.compile(
    r"misc(ellaneous)?|unsorted|unknown|uncategori[sz]ed|various|diverse[sn]?|distractors?|negatives?|neg|junk|rejected"
    r"|outliers?|irrelevant|background(_google)?|others?|todo|to[-_ ]sort|temp|tmp|trash|backup|duplicates?"
    r"|thumb(nail)?s|masks?|annotations?",
    re.IGNORECASE,
)
_JUDGEMENT = re.compile(
    r"pos(itives?)?|good|bad|ok|yes|no|true|false|(non[-_]?)?match(es)?|(dis)?similar|relevant|inliers?|accepted|kept?"
    r"|easy|medium|hard",
    re.IGNORECASE,
)
_VIEW = re.compile(
    r"day|night|dawn|dusk|morning|noon|afternoon|evening|sun(ny)?|rain(y)?|snow(y)?|fog(gy)?|overcast|cloudy"
    r"|spring|summer|autumn|fall|winter|left|right|front|back|rear|top|bottom|side|inside|outside|interior|exterior"
    r"|indoors?|outdoors?|portrait|landscape|cam(era)?[-_ ]?\d+|rgb|depth|raw|jpe?g|png|heic|small|large|originals?"
    r"|resized|full|cropped|crops|images|photos|videos?|frames|sketch(es)?|drawings|paintings",
    re.IGNORECASE,
)
_PART = re.compile(
    r"(part|batch|chunk|shard|bucket|block|images?|imgs?|photos?|pictures?|folder|dir|disk|disc|dvd|cd|roll|film|upload"
    r"|import|export|download|page|session|seq(uence)?|user|vol(ume)?|day|week|album)s?[-_ .]?\d+",
    re.IGNORECASE,
)


def _splits_among(names: Sequence[str]) -> list[str]:
    """The names of splits among other names; "train" alone is a vehicle."""
    found = [name for name in names if _is_split(name)]
    return [] if [name.lower() for name in found] == ["train"] else found


def _is_split(name: str) -> bool:
    return _SPLIT.fullmatch(name) is not None


def _is_dated(path: Folder) -> bool:
    """Whether a folder's name is a year or date without separators, or a number of a month or day inside a date."""
    name, parents = path[-1], path[:-1]
    within = any(re.fullmatch(_YEAR, part) or _DATE.fullmatch(part) for part in parents)
    return bool(_BARE_DATE.fullmatch(name) or (within and re.fullmatch(f"{_DAY}|[1-9]", name)))


def _named(pattern: re.Pattern[str]) -> Callable[[Folder], bool]:
    return lambda path: pattern.fullmatch(path[-1]) is not None


# Whether one such name is enough, what is said of it, and how it is recognised. Without `strict`, at least two folders
# and half of a level must have such names.
_KINDS: tuple[tuple[bool, str, Callable[[Folder], bool]], ...] = (
    (True, "named after dates and not after objects", _named(_DATE)),
    (False, "named after years or dates and not after objects", _is_dated),
    (False, "named after months or days and not after objects", _named(_MONTH_NAME)),
    (True, "named after a camera, an app or a program and not after an object", _named(_CAMERA)),
    (True, "of photos of no object, or of no photos", _named(_NO_OBJECT)),
    (False, "judgements of photos and not objects", _named(_JUDGEMENT)),
    (False, "views, conditions or versions of photos and not objects", _named(_VIEW)),
    (False, "numbered parts of a collection and not objects", _named(_PART)),
)


def _hexadecimal_tail(folder: Folder) -> Folder:
    """The last parts of a path that are one to three hexadecimal digits each."""
    start = len(folder)
    while start and re.fullmatch("[0-9a-fA-F]{1,3}", folder[start - 1]):
        start -= 1
    return folder[start:]


def _is_part_of(stem: str, parts: Folder) -> bool:
    """Whether short folder names are, in order, the first characters of a file's stem, or backwards its last."""
    joined, reverse = "".join(parts).lower(), "".join(reversed(parts)).lower()
    if len(parts) == 1 and len(joined) == 1 and joined.isalpha():
        return len(stem) > 2 and stem[0] == joined and stem[1:3].isalpha()  # sorted by the first letter
    rest = stem.removeprefix(joined) if stem.startswith(joined) else stem.removesuffix(reverse)
    if len(stem) < 8 or not stem.isalnum() or rest == stem:
        return False
    return len(parts) > 1 or bool(re.search("[0-9]", rest) and re.search("[a-z]", rest))


def _bare(name: str) -> str:
    """A name without case, Unicode form, marks of copies, and a year."""
    text = unicodedata.normalize("NFKC", name).casefold().strip()
    text = re.sub(r"(\s*\(\d+\)|[-_ ]+(copy|kopie|copie)( \d+)?)+$", "", text)
    return re.sub(rf"[-_ ]+(\()?{_YEAR}(\))?$", "", text) or text
