"""What a run's spec.yaml says of the code that made it."""

from __future__ import annotations

from terry.jobs.process.spec_file import folder_hash, own_folders


def test_the_hash_of_our_code_is_of_models_data_and_jobs() -> None:
    """It was of no file at all, and so the same for ever, after the module that computes it had moved."""
    inside = [{path.name for path in folder.rglob("*.py")} for folder in own_folders()]
    assert [{"trainer.py"} <= inside[0], {"segment.py"} <= inside[1], {"train.py"} <= inside[2]] == [True] * 3
    assert folder_hash(own_folders()) != folder_hash([])
