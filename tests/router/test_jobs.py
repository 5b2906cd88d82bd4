import pytest

from services.router.jobs import BlockedBy, ImageState, JobEnd, JobState, PictureOutcome, end_of, missing_indices

PUBLISHED = PictureOutcome(ImageState.PUBLISHED)
FAILED = PictureOutcome(ImageState.FAILED)
BY_IMAGE = PictureOutcome(ImageState.BLOCKED)
BY_PROVIDER = PictureOutcome(ImageState.BLOCKED, BlockedBy.PROVIDER)


@pytest.mark.parametrize(
    ("pictures", "end"),
    [
        ([PUBLISHED], JobEnd(JobState.SUCCEEDED)),
        ([FAILED, BY_IMAGE, PUBLISHED], JobEnd(JobState.SUCCEEDED)),
        ([FAILED, BY_IMAGE], JobEnd(JobState.BLOCKED, BlockedBy.IMAGE)),
        ([BY_PROVIDER], JobEnd(JobState.BLOCKED, BlockedBy.PROVIDER)),
        ([BY_PROVIDER, BY_IMAGE], JobEnd(JobState.BLOCKED, BlockedBy.IMAGE)),
        ([FAILED, FAILED], JobEnd(JobState.FAILED)),
        ([], JobEnd(JobState.FAILED)),
    ],
)
def test_the_pictures_decide_how_a_job_ends(pictures: list[PictureOutcome], end: JobEnd) -> None:
    assert end_of(pictures) == end


def test_only_missing_pictures_are_ordered_again() -> None:
    assert missing_indices(4, [2, 0]) == (1, 3)
    assert missing_indices(2, [0, 1]) == ()


def test_terminal_states() -> None:
    assert {state for state in JobState if not state.terminal} == {JobState.QUEUED, JobState.RUNNING}
