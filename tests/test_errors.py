from __future__ import annotations

import inspect
import re

import pytest

from rerankd import errors
from rerankd.errors import BadRequest, ClientError, Refused, RerankError, UpstreamError

CLASSES = [cls for _, cls in inspect.getmembers(errors, inspect.isclass) if issubclass(cls, RerankError)]
DRAWN = re.compile(r"^(?P<indent>    [│├└─ ]*)(?P<name>[A-Z]\w+) {2,}(?P<status>\d{3}\b)?", re.MULTILINE)


def drawn_tree() -> dict[str, tuple[str | None, int | None]]:
    """The parent and the status of each class, as the module's docstring draws them."""
    tree: dict[str, tuple[str | None, int | None]] = {}
    path: list[str] = []
    text = "\n".join(line + "  " for line in (errors.__doc__ or "").splitlines())
    for line in DRAWN.finditer(text):
        depth = (len(line["indent"]) - 4) // 3
        path[depth:] = [line["name"]]
        tree[line["name"]] = (path[depth - 1] if depth else None, int(line["status"]) if line["status"] else None)
    return tree


def test_the_tree_in_the_docstring_draws_every_class_and_no_other() -> None:
    assert set(drawn_tree()) == {cls.__name__ for cls in CLASSES}


@pytest.mark.parametrize("cls", CLASSES)
def test_each_class_hangs_where_the_tree_draws_it(cls: type[RerankError]) -> None:
    parent, _ = drawn_tree()[cls.__name__]
    assert cls.__bases__ == (Exception if parent is None else getattr(errors, parent),)


@pytest.mark.parametrize("cls", CLASSES)
def test_each_class_has_the_status_that_the_tree_draws(cls: type[RerankError]) -> None:
    _, status = drawn_tree()[cls.__name__]
    assert status in (None, cls.status)


def test_the_tree_draws_a_status_for_every_error_that_can_answer_a_request() -> None:
    without = {name for name, (_, status) in drawn_tree().items() if status is None}
    at_startup = {cls.__name__ for cls in CLASSES if issubclass(cls, (errors.LoadError, errors.BadSettings))}
    assert without == {"RerankError", "ClientError", "Refused"} | at_startup


def test_a_code_names_one_class_save_that_the_common_client_error_is_a_bad_request() -> None:
    codes = [cls.code for cls in CLASSES if cls is not ClientError]
    assert len(codes) == len(set(codes))
    assert ClientError.code == BadRequest.code


@pytest.mark.parametrize("cls", CLASSES)
def test_only_a_refusal_and_an_upstreams_failure_are_worth_another_try(cls: type[RerankError]) -> None:
    assert cls.retryable == issubclass(cls, Refused | UpstreamError)


@pytest.mark.parametrize("cls", CLASSES)
def test_client_errors_alone_have_a_4xx_status_but_for_429_and_499(cls: type[RerankError]) -> None:
    assert issubclass(cls, ClientError) == (400 <= cls.status < 500 and cls.status not in (429, 499))


def test_an_error_says_what_was_wrong_where_and_when_to_try_again() -> None:
    error = RerankError("No.", param="documents[3].text", retry_after=2.5)
    assert (str(error), error.message, error.param, error.retry_after) == ("No.", "No.", "documents[3].text", 2.5)
