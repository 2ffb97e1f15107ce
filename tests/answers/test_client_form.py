from serving.answers.client_form import ClientForm
from serving.answers.events import CallBegun, CallEnded, End, Event, Reasoning, Step, Text
from serving.mistral.reasoning import ThinkSplitter

END = End("stop")


def test_calls_have_the_clients_names() -> None:
    form = ClientForm({"short": "long"}, None)
    begun: list[Event] = [
        CallBegun("1", "short"),
        CallEnded(),
        CallBegun("2", "other"),
        CallEnded(),
    ]
    step = form.step(Step([Text("<think>"), *begun], token_ids=[5], end=END))
    expected: list[Event] = [
        CallBegun("1", "long"),
        CallEnded(),
        CallBegun("2", "other"),
        CallEnded(),
    ]
    assert step == Step([Text("<think>"), *expected], token_ids=[5], end=END)


def test_text_between_tags_is_reasoning_however_it_is_cut() -> None:
    form = ClientForm({}, ThinkSplitter())
    steps = [form.step(Step([Text(one)])) for one in "<think>\nSo.\n</think>\nYes <"]
    steps.append(form.step(Step([], end=END)))
    events = [event for step in steps for event in step.events]
    assert "".join(one.text for one in events if isinstance(one, Reasoning)) == "So."
    assert "".join(one.text for one in events if isinstance(one, Text)) == "Yes <"
    assert steps[-1].end == END
