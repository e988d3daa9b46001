"""The names of components, made of the qualified names of classes."""

from __future__ import annotations

import random

import pytest

from socketsundso.contract.schemas.names import names


@pytest.mark.parametrize(
    ("qualified", "expected"),
    [
        (["shop.Item"], ["Item"]),
        (["shop.Item", "blog.Item"], ["ShopItem", "BlogItem"]),
        (["a.b.Item", "c.b.Item", "a.d.Item"], ["ABItem", "CBItem", "DItem"]),
        (["shop.Page[shop.User]"], ["PageOfUser"]),
        (["shop.Pair[int,str]"], ["PairOfIntAndStr"]),
        (["shop.Page[User]", "blog.Page[User]"], ["ShopPageOfUser", "BlogPageOfUser"]),
        (["shop.make.<locals>.item"], ["Item"]),
        (["shop.Outer.Item", "shop.Other.Item"], ["OuterItem", "OtherItem"]),
        (["shop.Ärger"], ["Rger"]),
        (["a.B", "A.B"], ["AB", "AB2"]),
        (["Item", "a.Item"], ["Item", "AItem"]),
    ],
)
def test_the_shortest_name_that_nobody_else_has(qualified: list[str], expected: list[str]) -> None:
    """As much of where a class stands as tells it apart, and numbers where nothing does."""
    assert [names(qualified)[each] for each in qualified] == expected


def test_names_do_not_depend_on_the_order() -> None:
    """Whichever module is imported first."""
    known = [f"m{n}.k{n % 3}.Item" for n in range(9)] + ["m1.Other", "m2.Other", "m3.Single"]
    shuffled = random.Random(1).sample(known, len(known))
    assert names(known) == names(shuffled)


def test_no_two_have_one_name() -> None:
    """Also where one class has the name that another one gets."""
    known = ["a.Item", "b.Item", "AItem", "x.AItem", "a.b.Item"]
    assert len(set(names(known).values())) == len(known)
