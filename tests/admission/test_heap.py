import random
from dataclasses import dataclass

from serving.admission.heap import Heap


@dataclass(eq=False)
class Item:
    number: int
    gone: bool = False


def leave(heap: Heap[Item], item: Item) -> None:
    item.gone = True
    heap.note_gone()


def test_the_smallest_key_is_first_and_of_equal_ones_the_first_pushed() -> None:
    heap: Heap[Item] = Heap()
    first, second, third = Item(1), Item(2), Item(3)
    heap.push(7, second)
    heap.push(7, third)
    heap.push(3, first)
    seen = []
    while item := heap.first():
        seen.append(item)
        leave(heap, item)
    assert seen == [first, second, third]


def test_who_left_anywhere_is_never_first() -> None:
    rng = random.Random(1)
    heap: Heap[Item] = Heap()
    here: list[Item] = []
    for number in range(3000):
        if here and rng.random() < 0.45:
            leave(heap, here.pop(rng.randrange(len(here))))
        else:
            here.append(Item(rng.randrange(1000)))
            heap.push(here[-1].number, here[-1])
        first = heap.first()
        assert (first.number if first else None) == min((i.number for i in here), default=None)
        assert len(heap) == len(here), number


def test_memory_is_bound_to_who_is_there() -> None:
    heap: Heap[Item] = Heap()
    stays = Item(0)
    heap.push(0, stays)
    for number in range(1, 10_000):  # each behind the first, so never seen at the top
        item = Item(number)
        heap.push(number, item)
        leave(heap, item)
    assert heap.first() is stays
    assert len(heap._entries) < 50


def test_who_is_taken_out_is_gone_from_the_heap_alone() -> None:
    heap: Heap[Item] = Heap()
    items = [Item(number) for number in range(4)]
    for item in items:
        heap.push(item.number, item)
    leave(heap, items[0])
    assert heap.pop() is items[1]
    assert not items[1].gone
    assert [heap.pop(), heap.pop(), heap.pop()] == [items[2], items[3], None]
