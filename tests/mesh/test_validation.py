"""Validation tables: every violated rule is named, unset fields are left alone."""

import pytest
from imagemesh.router.v1 import job_pb2

from mesh.errors import InvalidArgument, Unimplemented
from mesh.validation import Rule, between, check, length, matches, one_of, refuse_set

RULES = (
    Rule("prompt", length(1, 5), "1 to 5 characters"),
    Rule("count", between(0, 4), "0 to 4"),
    Rule("steps", between(1, 10), "1 to 10"),
    Rule("size.width", one_of(64, 128), "64 or 128"),
    Rule("model", matches("[a-z]*"), "lower case"),
)


def test_every_violation_is_told_at_once() -> None:
    spec = job_pb2.GenerationSpec(prompt="", count=9, steps=0, model="X")
    spec.size.width = 65
    with pytest.raises(InvalidArgument) as caught:
        check(spec, RULES, "spec.")
    assert [v.field for v in caught.value.violations] == [
        "spec.prompt", "spec.count", "spec.steps", "spec.size.width", "spec.model",
    ]  # fmt: skip


def test_unset_optional_fields_and_messages_pass() -> None:
    check(job_pb2.GenerationSpec(prompt="fox"), RULES)


@pytest.mark.parametrize("field", ["strength", "template", "loras"])
def test_fields_for_later_are_refused_when_set_and_only_then(field: str) -> None:
    set_ = {
        "strength": job_pb2.GenerationSpec(strength=0.0),
        "template": job_pb2.GenerationSpec(template=job_pb2.TemplateReference()),
        "loras": job_pb2.GenerationSpec(loras=[job_pb2.Lora()]),
    }
    refuse_set(job_pb2.GenerationSpec(), {field: "later"})
    with pytest.raises(Unimplemented) as caught:
        refuse_set(set_[field], {field: "later"}, "spec.")
    assert caught.value.metadata["field"] == f"spec.{field}"
