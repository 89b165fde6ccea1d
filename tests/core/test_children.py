"""Lists of children in pages: pure parts, and distributors that overtake each other and die."""

from __future__ import annotations

from random import Random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from faaskeeper.core import children
from faaskeeper.core.changes import Transaction
from faaskeeper.core.children import INLINE, Ahead, Listing, Span, page_of, page_path, passes, written
from faaskeeper.core.errors import Code
from faaskeeper.core.requests import Create, Delete, Multi, inline
from faaskeeper.core.transactions import Context, Limits, apply
from faaskeeper.core.znode import Meta


def test_a_page_more_moves_names_of_one_page_only() -> None:
    names = [f"n{number}" for number in range(2_000)]
    for pages in range(1, 70):
        before = {name: page_of(name, pages) for name in names}
        after = {name: page_of(name, pages + 1) for name in names}
        assert set(before.values()) <= set(range(pages))
        moved = {before[name] for name in names if before[name] != after[name]}
        assert len(moved) <= 1
        assert {after[name] for name in names if before[name] != after[name]} <= {pages}
        assert moved <= set(written(pages, pages + 1, []))


def test_names_are_spread_evenly() -> None:
    pages = 64
    sizes = [0] * pages
    for number in range(pages * 128):
        sizes[page_of(f"lock-{number:010d}", pages)] += 1
    assert max(sizes) < 2 * 128


@given(counts=st.lists(st.integers(0, 70), min_size=1, max_size=30))
@settings(deadline=None)
def test_a_list_read_in_parts_has_each_name_once_however_its_pages_change_meanwhile(
    counts: list[int],
) -> None:
    names = [f"n{number}" for number in range(500)]
    found: list[str] = []
    part: Span | None = Span()
    turn = 0
    while part is not None:
        pages = counts[min(turn, len(counts) - 1)]
        wanted = part.pages(pages)
        assert all(0 <= number < pages for number in wanted)
        stored = [name for name in names if not pages or page_of(name, pages) in wanted]
        taken, part = part.take(stored, pages)
        assert taken == sorted(taken)
        found += taken
        turn += 1
    assert sorted(found) == sorted(names)


def test_a_part_of_a_list_is_a_fixed_number_of_its_pages() -> None:
    part: Span | None = Span()
    while part is not None:
        assert len(part.pages(1000)) <= children.SPAN
        _, part = part.take([], 1000)


class Tree:
    """A parent whose children come and go, judged one transaction after the other."""

    def __init__(self, seed: int, length: int) -> None:
        random = Random(seed)
        self.nodes: dict[str, Meta] = {"/": Meta(0, 0, 0, 0, 0), "/p": Meta(0, 0, 0, 0, 0)}
        self.transactions: list[Transaction] = []
        self.names: list[set[str]] = [set()]
        limits = Limits(page_names=2)
        while len(self.transactions) < length:
            some = random.sample([f"/p/c{number}" for number in range(14)], random.randint(1, 4))
            many = Multi(
                tuple(
                    Delete(path) if path in self.nodes else Create(path, inline(b""))
                    for path in some
                    if random.random() < (0.9 if path in self.nodes or random.random() < 0.6 else 0.2)
                )
            )
            txid = len(self.transactions) + 1
            outcome, transaction = apply(Context(self, 1, 0, txid, limits), many)
            if outcome.code is not Code.OK or transaction is None or not transaction.changes:
                continue
            self.transactions.append(transaction)
            names = set(self.names[-1])
            for path, letters, meta, _ in transaction.changes:
                if meta is None:
                    del self.nodes[path]
                    names.discard(path[3:])
                else:
                    self.nodes[path] = meta
                    if "C" in letters:
                        names.add(path[3:])
            self.names.append(names)

    def node(self, path: str) -> Meta | None:
        return self.nodes.get(path)

    def ephemerals(self, session: int) -> list[str]:
        return []

    def pages(self, txid: int) -> int:
        for transaction in reversed(self.transactions[:txid]):
            for change in transaction.changes:
                if change.path == "/p" and change.meta is not None:
                    return change.meta.pages
        return 0


@pytest.mark.parametrize("seed", range(20))
def test_one_created_or_deleted_znode_has_the_effects_that_the_general_rule_gives(
    seed: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    tree = Tree(seed, 60)
    singles = [each for each in tree.transactions if children._single(each) is not None]
    assert 5 < len(singles) < 60

    def effects() -> list[object]:
        made: list[object] = [children.writes_of(each) for each in tree.transactions]
        for run in passes(tree.transactions):
            for path, listing in children.listings(run).items():
                listing.run({each: (0, ["c1", "c3"]) for each in listing.needs()})
                pages = [listing.pages(sources=sources) for sources in (False, True)]
                made.append((path, listing._steps, listing.needs(), listing.gives(), pages))
        return made

    fast = effects()
    monkeypatch.setattr(children, "_single", lambda transaction: None)
    assert fast == effects()


Storage = dict[str, tuple[int, list[str]]]


def put(storage: Storage, path: str, stamp: int, names: list[str]) -> None:
    """As user storage does it: over older records only."""
    if storage.get(path, (-1, []))[0] < stamp:
        storage[path] = (stamp, list(names))


def distribute(tree: Tree, storage: Storage, first: int, last: int, random: Random):  # type: ignore[no-untyped-def]
    """What a distributor does with transactions first..last, a switch after every call on the storage."""
    for run in passes(tree.transactions[first - 1 : last]):
        lists = children.listings(run)
        touched = [each.txid for each in run if any(change.path == "/p" for change in each.changes)]
        inline_txid = max(touched)
        for _ in range(10):
            contents: Storage = {}
            wanted = sorted({"/p"} | {path for listing in lists.values() for path in listing.needs()})
            random.shuffle(wanted)
            for path in wanted:
                yield
                if path in storage:
                    contents[path] = (storage[path][0], list(storage[path][1]))
            try:
                for listing in lists.values():
                    listing.run(contents)
            except Ahead:
                continue
            break
        else:
            raise AssertionError("ahead for ever")
        listing = lists.get("/p")
        pages = tree.pages(run[-1].txid)
        own: list[str] | None = []
        if not pages:
            if listing is not None:
                own = listing.inline(inline_txid)
            elif contents.get("/p", (-1, []))[0] >= inline_txid:
                own = None
            else:
                own = sorted(set(contents.get("/p", (0, []))[1]))
                for each in run:
                    changed = children.names_in(each).get("/p", {})
                    own = children.renamed(own, changed)
        first_puts: list[tuple[str, int, list[str]]] = []
        second_puts: list[tuple[str, int, list[str]]] = []
        if own is not None:
            late = listing is not None and listing.gives()
            (second_puts if late else first_puts).append(("/p", inline_txid, own))
        if listing is not None:
            for sources, puts in ((False, first_puts), (True, second_puts)):
                for page in listing.pages(sources=sources):
                    puts.append((page_path("/p", page.number), page.stamp, page.names or []))
        for puts in (first_puts, second_puts):
            random.shuffle(puts)
            for path, stamp, names in puts:
                yield
                put(storage, path, stamp, names)


def shown(tree: Tree, storage: Storage, txid: int) -> set[str]:
    pages = tree.pages(txid)
    where = [page_path("/p", number) for number in range(pages)] if pages else ["/p"]
    return {name for path in where for name in storage.get(path, (0, []))[1]}


@settings(max_examples=400, deadline=None)
@given(st.integers(0, 2**32), st.integers(4, 30))
def test_distributors_that_overtake_and_crash_leave_the_right_lists(seed: int, length: int) -> None:
    """Several work at once, on groups of their own; some die in the middle. In the end one does the rest."""
    tree, random = Tree(seed, length), Random(seed + 1)
    storage: Storage = {"/p": (0, [])}
    done = 0
    while done < length:
        workers = []
        for _ in range(random.randint(1, 3)):
            last = random.randint(done + 1, length)
            workers.append((last, distribute(tree, storage, done + 1, last, random)))
        finished = 0
        while workers and not finished:
            at = random.randrange(len(workers))
            last, worker = workers[at]
            if random.random() < 0.02:
                workers.pop(at)  # dies
                continue
            try:
                next(worker)
            except StopIteration:
                finished = last
                workers.pop(at)
        # The mark is raised by the one that ended; those that still run are slow, and go on below it.
        for _, worker in workers:
            for _ in range(random.randint(0, 5)):
                next(worker, None)
            if random.random() < 0.5:
                for _ in worker:
                    continue
        if finished:
            done = max(done, finished)
            if all(storage.get(path, (0, []))[0] <= done for path in storage):
                assert shown(tree, storage, done) == tree.names[done]
    assert shown(tree, storage, length) == tree.names[length]


@pytest.mark.parametrize("rule", ["sources second", "ahead", "passes"])
def test_a_rule_of_pages_left_out_loses_names(rule: str, monkeypatch: pytest.MonkeyPatch) -> None:
    if rule == "sources second":
        pages = Listing.pages

        def both(self: Listing, *, sources: bool) -> list[children.Page]:
            return [] if sources else [*pages(self, sources=False), *pages(self, sources=True)]

        monkeypatch.setattr(Listing, "pages", both)
        monkeypatch.setattr(Listing, "gives", lambda self: False)
    elif rule == "passes":
        monkeypatch.setitem(globals(), "passes", lambda transactions: [transactions])
    else:
        move = Listing._move

        def careless(self: Listing, step: children.Step, ours: set[int]) -> None:
            try:
                move(self, step, ours)
            except Ahead:
                return

        monkeypatch.setattr(Listing, "_move", careless)
    test = test_distributors_that_overtake_and_crash_leave_the_right_lists
    check = test.hypothesis.inner_test  # type: ignore[attr-defined]

    def search() -> None:
        for seed in range(20_000):
            check(seed, 4 + seed % 27)

    with pytest.raises(AssertionError):
        search()


def test_the_inline_list_has_no_page() -> None:
    assert page_of("anything", 0) == INLINE
    assert written(0, 0, ["a"]) == []
    assert written(0, 2, []) == [0, 1]
