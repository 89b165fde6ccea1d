"""A part that is missing is a reason to skip on a user's machine, and a failure in CI."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.gcp import backends


def test_a_missing_emulator_fails_in_ci_and_is_skipped_with_a_reason_elsewhere(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(backends, "sdk", lambda: Path("/nowhere"))
    monkeypatch.setattr(backends, "find_spec", lambda name: None)
    for start, reason in (
        (backends.datastore, "gcloud SDK"),
        (backends.pubsub, "gcloud SDK"),
        (backends.storage, "'make setup' installs it"),
    ):
        monkeypatch.setenv("CI", "true")
        with pytest.raises(pytest.fail.Exception, match="is missing, and this is CI"), start():
            pass
        monkeypatch.delenv("CI")
        with pytest.raises(pytest.skip.Exception, match=reason), start():
            pass
