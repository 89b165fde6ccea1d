"""A part that is missing is a reason to skip on a user's machine, and a failure in CI."""

from __future__ import annotations

import pytest

from tests.aws import backends


def test_a_missing_emulator_fails_in_ci_and_is_skipped_with_a_reason_elsewhere(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(backends, "MINISTACK", backends.MINISTACK / "none")
    monkeypatch.setattr(backends, "DYNAMODB_LOCAL", backends.DYNAMODB_LOCAL / "none")
    for start in (backends.ministack, backends.dynamodb_local):
        monkeypatch.setenv("CI", "true")
        with pytest.raises(pytest.fail.Exception, match="is missing, and this is CI"), start():
            pass
        monkeypatch.delenv("CI")
        with pytest.raises(pytest.skip.Exception, match="'make setup' installs it"), start():
            pass
