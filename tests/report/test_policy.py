"""What a page may run is its own script and its own style, named by their hashes; nothing may be loaded."""

import base64
import hashlib
import re

import pytest

from bayestwin.report.page import fill

KINDS = {"script": "script-src", "style": "style-src-elem"}


def policy(page: str) -> dict[str, str]:
    """The page's Content-Security-Policy, by directive."""
    (text,) = re.findall(r'<meta http-equiv="Content-Security-Policy" content="([^"]*)">', page)
    return dict(rule.split(" ", 1) for rule in text.split("; "))


@pytest.fixture(scope="module")
def batch() -> str:
    return fill("batch.html", {"tasks": [], "words": "nothing", "prob": "90 %"})


@pytest.mark.parametrize("kind", KINDS)
def test_the_one_element_of_each_kind_is_the_one_that_is_allowed(batch: str, kind: str) -> None:
    (content,) = re.findall(rf"<{kind}>(.*?)</{kind}>", batch, flags=re.DOTALL)
    found = base64.b64encode(hashlib.sha256(content.encode()).digest()).decode()
    assert policy(batch)[KINDS[kind]] == f"'sha256-{found}'"


def test_nothing_else_is_allowed_but_attributes_of_style(batch: str) -> None:
    found = policy(batch)
    assert set(found) == {"default-src", "base-uri", "form-action", "style-src-attr", *KINDS.values()}
    assert {found[name] for name in ("default-src", "base-uri", "form-action")} == {"'none'"}
    assert "unsafe-eval" not in str(found)
    assert "'unsafe-inline'" not in found["script-src"]


def test_the_policy_stands_before_all_that_it_rules(batch: str) -> None:
    assert batch.index("Content-Security-Policy") < min(batch.index(f"<{kind}>") for kind in KINDS)


def test_every_page_about_a_result_has_the_same(pages: dict[str, str], batch: str) -> None:
    assert all(policy(page) == policy(batch) for page in pages.values())
