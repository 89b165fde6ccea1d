"""Lists of children: in the parent's own record while short, in *pages* beyond that.

A page is a record of user storage like any other, under a path that no znode can have. So the rules
that order reads and writes of records (stamps, tombstones, epochs) hold for pages too. Linear
hashing assigns a name to a page: adding or removing a page moves names of one other page only. The
number of pages is part of the parent's metadata and decided during validation. Everything here is
pure.

``docs/architecture/storage.md``, *Children in pages*, argues why no name is ever lost.
"""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Iterable, Iterator, Mapping, Sequence
from functools import lru_cache

from faaskeeper.core import paths
from faaskeeper.core.changes import Transaction
from faaskeeper.core.tuples import NamedTuple
from faaskeeper.core.znode import Meta

INLINE = -1
"""In place of a page's number: the parent's own record."""
SPAN = 16
"""Buckets in one part of a list that is read piece by piece: some 2,000 names."""
PAGE_META = Meta(0, 0, 0, 0, 0)
"""The metadata in a page's record, which distinguishes it from a tombstone."""


def page_path(path: str, number: int) -> str:
    """Path of a page of a parent. No znode's path has an empty component."""
    return f"{path}//{number}"


def page_of(name: str, pages: int) -> int:
    """Number of the page that holds a name; :data:`INLINE` if there are no pages."""
    return _reduced(_hash(name), pages)


@lru_cache(4096)  # each name of a batch is asked for several times
def _hash(name: str) -> int:
    from zlib import crc32

    return crc32(name.encode())


def _reduced(number: int, pages: int) -> int:
    """Linear hashing: as many low bits as the pages need, one less if that page does not exist."""
    if not pages:
        return INLINE
    wide = (1 << pages.bit_length()) - 1
    page = number & wide
    return page if page < pages else number & (wide >> 1)


class Span(NamedTuple):
    """A part of a list, for reading it piece by piece while its number of pages changes.

    ``buckets``: the number of pages when the reading began, 0 if it has not. A name belongs to the
    bucket that was its page then. ``at``: the first bucket of this part.
    """

    at: int = 0
    buckets: int = 0

    def pages(self, pages: int) -> list[int]:
        """The pages that hold this part's names when there are ``pages`` of them.

        Each page beyond the first ``buckets`` was split, directly or not, from the one of them to
        which linear hashing reduces its number, and has no other bucket's names.
        """
        buckets = self.buckets or pages
        end = min(self.at + SPAN, buckets)
        if pages >= buckets:
            return [number for number in range(pages) if self.at <= _reduced(number, buckets) < end]
        return sorted({_reduced(number, pages) for number in range(self.at, end)} - {INLINE})

    def take(self, names: Iterable[str], pages: int) -> tuple[list[str], Span | None]:
        """This part's names, sorted, of those in its pages; and the part after it.

        ``pages``: the present number of pages. A name that is in the list all the time is in one
        part, any other in one or none.
        """
        buckets = self.buckets or pages
        if not buckets:
            return sorted(names), None
        end = self.at + SPAN
        taken = sorted(name for name in names if self.at <= page_of(name, buckets) < end)
        return taken, Span(end, buckets) if end < buckets else None


def written(before: int, after: int, names: Iterable[str]) -> list[int]:
    """Pages that a transaction writes or removes.

    ``before``, ``after``: numbers of pages. ``names``: the names that it creates or deletes.
    """
    changed = {page_of(name, after) for name in names}
    if before == after:  # nearly always
        return sorted(changed) if after else []
    for number in range(before, after):
        changed.update((number, _reduced(number, before)))
    for number in range(after, before):
        changed.update((number, _reduced(number, after)))
    changed.discard(INLINE)
    return sorted(changed)


class Step(NamedTuple):
    """The effect of one transaction on a parent's list.

    ``before``, ``after``: numbers of pages. ``names``: whether each changed name exists afterwards.
    ``pages``: those that it writes or removes.
    """

    txid: int
    before: int
    after: int
    names: Mapping[str, bool]
    pages: list[int]


def paged_in(transaction: Transaction) -> list[str]:
    """Parents that a transaction writes and whose lists are in pages before or after it."""
    found = [path for path, _ in transaction.resized]
    for path, _, meta, _ in transaction.changes:
        if meta is not None and meta.pages and path not in found:
            found.append(path)
    return found


def step_of(transaction: Transaction, path: str, names: Mapping[str, Mapping[str, bool]]) -> Step | None:
    """The effect of a transaction on a parent's list; None if it has none.

    ``names``: the result of :func:`names_in`.
    """
    changed = names.get(path, {})
    before = dict(transaction.resized).get(path)
    if before is None and not changed:
        return None
    after = next(
        (change.meta.pages for change in transaction.changes if change.path == path and change.meta), 0
    )
    before = after if before is None else before
    return Step(transaction.txid, before, after, changed, written(before, after, changed))


def names_in(transaction: Transaction) -> dict[str, dict[str, bool]]:
    """By parent, the created and deleted names, and whether each exists after the transaction."""
    names: dict[str, dict[str, bool]] = {}
    for path, letters, meta, _ in transaction.changes:
        if "C" in letters or "D" in letters:
            names.setdefault(paths.parent(path), {})[paths.name(path)] = meta is not None
    return names


class _Single(NamedTuple):
    """What nearly all transactions that change a list do: one name, and the number of pages stays."""

    parent: str
    name: str
    present: bool
    pages: int


def _single(transaction: Transaction) -> _Single | None:
    """The effect of a transaction that creates or deletes one znode and resizes nothing."""
    changes = transaction.changes
    if len(changes) != 2 or transaction.resized or transaction.order:
        return None
    (path, letters, meta, _), (parent, below, above, _) = changes
    if below != "K" or above is None or letters not in ("C", "D"):
        return None
    return _Single(parent, paths.name(path), meta is not None, above.pages)


def writes_of(transaction: Transaction) -> tuple[tuple[str, str], ...]:
    """Every path that a transaction writes, with the letters of its events, in order.

    Pages are included. A path occurs more than once if the order of events requires it.
    """
    if len(transaction.changes) == 1 and not transaction.resized and not transaction.order:
        path, letters, _, _ = transaction.changes[0]
        return ((path, letters),)  # neither created nor deleted, or its parent were changed, too
    single = _single(transaction)
    if single is not None:
        parent, name, _, pages = single
        path, letters, _, _ = transaction.changes[0]
        if not pages:
            return ((path, letters), (parent, "K"))
        return ((path, letters), (parent, "K"), (page_path(parent, page_of(name, pages)), ""))
    listed = [(path, letters) for path, letters, _, _ in transaction.changes]
    if transaction.order:
        happened = [(listed[place][0], letters) for place, letters in transaction.order]
        ordered = {path for path, _ in happened}
        rest = [(path, "".join(letter for letter in letters if letter == "K")) for path, letters in listed]
        listed = happened + [(path, letters) for path, letters in rest if letters or path not in ordered]
    paged = paged_in(transaction)
    if paged:
        names = names_in(transaction)
        for path in paged:
            step = step_of(transaction, path, names)
            if step is not None:
                listed.extend([(page_path(path, number), "") for number in step.pages])
    return tuple(listed)


def _step_of_single(txid: int, single: _Single) -> Step:
    _, name, present, pages = single
    return Step(txid, pages, pages, {name: present}, [page_of(name, pages)] if pages else [])


def removed_pages(transaction: Transaction) -> Iterator[str]:
    """Paths of the pages that a transaction removes."""
    after = {change.path: change.meta.pages for change in transaction.changes if change.meta is not None}
    for path, before in transaction.resized:
        for number in range(after.get(path, 0), before):
            yield page_path(path, number)


def passes(transactions: Sequence[Transaction]) -> Iterator[Sequence[Transaction]]:
    """Split transactions into runs, in each of which a list is resized at most once.

    Resized: its number of pages changes.
    """
    if not any(transaction.resized for transaction in transactions):
        yield transactions
        return
    part: list[Transaction] = []
    resized: set[str] = set()
    for transaction in transactions:
        paths_ = {path for path, _ in transaction.resized}
        if resized & paths_:
            yield part
            part, resized = [], set()
        part.append(transaction)
        resized |= paths_
    yield part


def listings(transactions: Sequence[Transaction]) -> dict[str, Listing]:
    """The lists that are in pages at some time in a run, with what the run does to each."""
    steps: dict[str, list[Step]] = {}
    singles = [_single(transaction) for transaction in transactions]
    for transaction, single in zip(transactions, singles, strict=True):
        if single is not None:
            if single.pages:
                steps[single.parent] = []
        elif len(transaction.changes) > 1 or transaction.resized:  # otherwise no list changes
            for path in paged_in(transaction):
                steps[path] = []
    if steps:
        for transaction, single in zip(transactions, singles, strict=True):
            if single is not None:
                if (taken := steps.get(single.parent)) is not None:
                    taken.append(_step_of_single(transaction.txid, single))
                continue
            names = names_in(transaction)
            for path in {**names, **dict(transaction.resized)}:
                step = step_of(transaction, path, names) if path in steps else None
                if step is not None:
                    steps[path].append(step)
    return {path: Listing(path, taken) for path, taken in steps.items() if taken}


# ---- making the pages --------------------------------------------------------------------------


class Ahead(Exception):
    """Another distributor has moved names meanwhile: read again."""


class Page(NamedTuple):
    """A page, or the inline list, to be written. ``names`` None: it is removed."""

    number: int
    stamp: int
    names: list[str] | None


class _Slot:
    __slots__ = ("dirty", "gone", "names", "stamp")

    def __init__(self, stamp: int, names: Iterable[str]) -> None:
        self.stamp = stamp
        self.names = list(names)
        self.gone = False
        self.dirty = False


class Listing:
    """One parent's list, and steps of which at most one changes the number of pages."""

    def __init__(self, path: str, steps: Sequence[Step]) -> None:
        self._path = path
        self._steps = steps
        self._slots: dict[int, _Slot] = {}
        self._sources: set[int] = set()

    def needs(self) -> list[str]:
        """Paths whose records :meth:`run` needs."""
        numbers: set[int] = set()
        for step in self._steps:
            numbers.update(_touched(step))
        return [self._where(number) for number in sorted(numbers)]

    def _where(self, number: int) -> str:
        return self._path if number == INLINE else page_path(self._path, number)

    def run(self, contents: Mapping[str, tuple[int, Sequence[str]]]) -> None:
        """Apply the steps to the stored lists: by path, the txid that wrote it and its names.

        Leaves a stored list alone that is as of a step or later. Raises Ahead.
        """
        self._slots = {}
        self._sources = set()
        for step in self._steps:
            touched = _touched(step)
            for number in touched:
                if number not in self._slots:
                    self._slots[number] = _Slot(*contents.get(self._where(number), (-1, ())))
            if len(touched) == len(step.names) == 1 and step.before == step.after:  # nearly all are
                slot = self._slots[touched[0]]
                if slot.stamp < step.txid:
                    ((name, present),) = step.names.items()
                    _put(slot.names, name, present)
                    slot.stamp, slot.dirty = step.txid, True
                continue
            ours = {number for number in touched if self._slots[number].stamp < step.txid}
            self._move(step, ours)
            for name, present in step.names.items():
                number = page_of(name, step.after)
                if number in ours:
                    _put(self._slots[number].names, name, present)
            for number in ours:
                slot = self._slots[number]
                slot.stamp = step.txid
                slot.dirty = True
                slot.gone = number >= step.after and number != INLINE

    def _move(self, step: Step, ours: set[int]) -> None:
        """Move names from sources to receivers, unless those have them already."""
        slots = self._slots
        moves = [(_reduced(number, step.before), number) for number in range(step.before, step.after)]
        moves += [(number, _reduced(number, step.after)) for number in range(step.after, step.before)]
        for source, receiver in moves:
            self._sources.add(source)
            if receiver not in ours:
                continue
            if source not in ours:
                raise Ahead
            for name in slots[source].names:
                if page_of(name, step.after) == receiver:
                    _put(slots[receiver].names, name, True)
        for source in {source for source, _ in moves if source in ours}:
            slots[source].names = [
                name for name in slots[source].names if page_of(name, step.after) == source
            ]

    def inline(self, txid: int) -> list[str] | None:
        """Names to store in the parent's own record as of ``txid``.

        None: the stored record is as of ``txid`` or later.
        """
        slot = self._slots[INLINE]
        return slot.names if slot.dirty or slot.stamp < txid else None

    def pages(self, *, sources: bool) -> list[Page]:
        """The pages to write: only sources of moves, which are written second, or only others."""
        return [
            Page(number, slot.stamp, None if slot.gone else slot.names)
            for number, slot in self._slots.items()
            if slot.dirty and number != INLINE and (number in self._sources) is sources
        ]

    def gives(self) -> bool:
        """Whether names move from the parent's own record, so that it must be written second."""
        return INLINE in self._sources


def _touched(step: Step) -> list[int]:
    return step.pages if step.before and step.after else [INLINE, *step.pages]


def _put(names: list[str], name: str, present: bool) -> None:
    at = bisect_left(names, name)
    there = at < len(names) and names[at] == name
    if present and not there:
        names.insert(at, name)
    elif there and not present:
        del names[at]


def renamed(children: Sequence[str], names: Mapping[str, bool]) -> list[str]:
    """The sorted children with names added and removed; idempotent."""
    after = list(children)
    for name, present in names.items():
        _put(after, name, present)
    return after
