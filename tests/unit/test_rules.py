"""Anti-cheat rules at and around their bounds, and the verdict they add up to."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from scoreboard.domain.rules import (
    RULES,
    CompletedAction,
    Consequence,
    Evidence,
    History,
    Mode,
    Rule,
    Severity,
    check_burst,
    check_clock_mismatch,
    check_completion_time,
    judge,
)

ISSUED = datetime(2026, 1, 1, tzinfo=UTC)
NO_HISTORY = History()
MS = timedelta(milliseconds=1)
US = timedelta(microseconds=1)


def completion(
    elapsed_ms: float = 5_000, claimed_ms: int = 5_000, low: int = 1_000, high: int = 300_000
) -> CompletedAction:
    return CompletedAction(ISSUED, ISSUED + elapsed_ms * MS, claimed_ms, low, high)


@pytest.mark.parametrize(
    ("elapsed", "milliseconds"),
    [(timedelta(), 0), (999 * US, 0), (MS, 1), (2 * MS - US, 1), (timedelta(days=30) + MS, 2_592_000_001)],
)
def test_elapsed_time_is_whole_milliseconds(elapsed: timedelta, milliseconds: int) -> None:
    assert CompletedAction(ISSUED, ISSUED + elapsed, 0, 0, 1).elapsed_ms == milliseconds


@pytest.mark.parametrize("claimed_ms", [0, 4_999, 5_000, 6_999, 7_000])
def test_a_claim_within_the_tolerance_is_believed(claimed_ms: int) -> None:
    assert check_clock_mismatch(completion(5_000, claimed_ms), NO_HISTORY) is None


@pytest.mark.parametrize("claimed_ms", [7_001, 60_000])
def test_a_claim_over_the_tolerance_is_a_clock_mismatch(claimed_ms: int) -> None:
    evidence = check_clock_mismatch(completion(5_000, claimed_ms), NO_HISTORY)
    assert evidence == {"claimedMs": claimed_ms, "elapsedMs": 5_000, "toleranceMs": 2_000}


@pytest.mark.parametrize("elapsed_ms", [1_000, 1_001, 299_999, 300_000, 300_000.999])
def test_a_time_within_the_bounds_is_fine(elapsed_ms: float) -> None:
    assert check_completion_time(completion(elapsed_ms), NO_HISTORY) is None


@pytest.mark.parametrize("elapsed_ms", [0, 999, 999.999, 300_001, 10**9])
def test_a_time_outside_the_bounds_is_not(elapsed_ms: float) -> None:
    evidence = check_completion_time(completion(elapsed_ms), NO_HISTORY)
    assert evidence == {"claimedMs": 5_000, "elapsedMs": int(elapsed_ms), "minMs": 1_000, "maxMs": 300_000}


@pytest.mark.parametrize(("claimed_ms", "is_fine"), [(999, False), (1_000, True), (300_000, True), (300_001, False)])
def test_the_claim_is_held_to_the_same_bounds(claimed_ms: int, is_fine: bool) -> None:
    assert (check_completion_time(completion(299_000, claimed_ms), NO_HISTORY) is None) is is_fine


def before(*ages: timedelta) -> History:
    """Completions accepted so long before this one, and this one."""
    now = completion().completed_at
    return History([*(now - age for age in ages), now])


def test_eight_in_ten_seconds_are_fine_and_nine_a_burst() -> None:
    seconds = [timedelta(seconds=second) for second in range(1, 9)]
    assert check_burst(completion(), before(*seconds[:7])) is None
    evidence = check_burst(completion(), before(*seconds))
    assert evidence == {"count": 9, "windowS": 10.0, "maximum": 8}


def test_the_window_ends_ten_seconds_back() -> None:
    recent = [timedelta(seconds=1)] * 7
    assert check_burst(completion(), before(*recent, timedelta(seconds=10))) is None
    assert check_burst(completion(), before(*recent, timedelta(seconds=10) - US)) is not None


def test_what_was_accepted_later_is_no_part_of_this_burst() -> None:
    assert check_burst(completion(), before(*[timedelta(seconds=1)] * 7, *[-US] * 5)) is None


def test_completions_of_one_moment_count_each() -> None:
    assert check_burst(completion(), before(*[timedelta()] * 7)) is None
    assert check_burst(completion(), before(*[timedelta()] * 8)) is not None


@given(st.lists(st.integers(-15_000_000, 15_000_000), max_size=40))
def test_a_burst_is_more_than_eight_in_the_window(ages: list[int]) -> None:
    count = sum(0 <= age < 10_000_000 for age in ages) + 1
    evidence = check_burst(completion(), before(*(age * US for age in ages)))
    assert (evidence["count"] if evidence else None) == (count if count > 8 else None)


def test_an_honest_completion_has_no_risk() -> None:
    verdict = judge(completion(), before())
    assert (verdict.consequence, verdict.reason, verdict.risk, verdict.signals) == (None, None, 0, ())


@pytest.mark.parametrize(
    ("given_completion", "history", "consequence", "reason"),
    [
        (completion(5_000, 7_001), before(), Consequence.REJECT, "CLOCK_MISMATCH"),
        # Both clocks and bounds are broken: the clocks are named.
        (completion(500, 5_000), before(), Consequence.REJECT, "CLOCK_MISMATCH"),
        (completion(500, 2_500), before(), Consequence.REJECT, "COMPLETION_TIME"),
        (completion(400_000, 5_000), before(), Consequence.REJECT, "COMPLETION_TIME"),
        (completion(), before(*[timedelta()] * 8), Consequence.HOLD, "BURST"),
        # Rejecting is harder than holding: the burst is listed, the time decides.
        (completion(500, 500), History([ISSUED + 500 * MS] * 9), Consequence.REJECT, "COMPLETION_TIME"),
    ],
)
def test_the_reason_is_that_of_the_contract(
    given_completion: CompletedAction, history: History, consequence: Consequence, reason: str
) -> None:
    verdict = judge(given_completion, history)
    assert (verdict.consequence, verdict.reason) == (consequence, reason)


def test_the_rules_in_force_are_enforced_and_named_apart() -> None:
    assert {(rule.name, rule.reason, rule.mode) for rule in RULES} == {
        ("clock_mismatch", "CLOCK_MISMATCH", Mode.ENFORCE),
        ("completion_time", "COMPLETION_TIME", Mode.ENFORCE),
        ("burst", "BURST", Mode.ENFORCE),
    }


def triggered(_completion: CompletedAction, _history: History) -> Evidence:
    return {"seen": 1}


def quiet(_completion: CompletedAction, _history: History) -> None:
    return None


def rule(
    name: str,
    consequence: Consequence = Consequence.LOG,
    severity: Severity = Severity.LOW,
    mode: Mode = Mode.ENFORCE,
    is_triggered: bool = True,
) -> Rule:
    return Rule(name, 1, name.upper(), severity, mode, consequence, triggered if is_triggered else quiet)


def test_the_hardest_consequence_decides() -> None:
    mild_to_hard = [Consequence.LOG, Consequence.FLAG, Consequence.HOLD, Consequence.REJECT]
    rules = [rule(each.value, each) for each in mild_to_hard]
    for count in range(1, 5):
        for order in (rules[:count], rules[:count][::-1]):
            verdict = judge(completion(), NO_HISTORY, order)
            assert verdict.consequence is mild_to_hard[count - 1]
            assert verdict.reason == mild_to_hard[count - 1].value.upper()


def test_the_first_listed_decides_among_equals() -> None:
    verdict = judge(completion(), NO_HISTORY, [rule("one", Consequence.HOLD), rule("two", Consequence.HOLD)])
    assert verdict.reason == "ONE"
    assert [signal.rule.name for signal in verdict.signals] == ["one", "two"]


def test_a_rule_in_shadow_is_seen_and_changes_nothing() -> None:
    shadow = rule("shadow", Consequence.REJECT, Severity.CRITICAL, Mode.SHADOW)
    verdict = judge(completion(), NO_HISTORY, [shadow])
    assert (verdict.consequence, verdict.reason, verdict.risk) == (None, None, 0)
    assert [(signal.rule, signal.evidence) for signal in verdict.signals] == [(shadow, {"seen": 1})]
    both = judge(completion(), NO_HISTORY, [shadow, rule("mild", Consequence.FLAG)])
    assert (both.consequence, both.reason, both.risk) == (Consequence.FLAG, "MILD", 0.1)


def test_a_rule_that_is_off_is_not_run() -> None:
    def fail(_completion: CompletedAction, _history: History) -> Evidence | None:
        raise AssertionError("a rule that is off was run")

    off = Rule("off", 1, "OFF", Severity.HIGH, Mode.OFF, Consequence.REJECT, fail)
    assert judge(completion(), NO_HISTORY, [off]).signals == ()


def test_risk_grows_with_severity_and_adds_up_as_independent_chances() -> None:
    risks = [judge(completion(), NO_HISTORY, [rule("one", severity=severity)]).risk for severity in Severity]
    assert risks == sorted(set(risks))
    two = judge(completion(), NO_HISTORY, [rule("one", severity=Severity.HIGH), rule("two", severity=Severity.MEDIUM)])
    assert two.risk == pytest.approx(1 - 0.4 * 0.7)


rules_strategy = st.lists(
    st.builds(
        rule,
        st.just("any"),
        st.sampled_from(Consequence),
        st.sampled_from(Severity),
        st.sampled_from(Mode),
        st.booleans(),
    ),
    max_size=30,
)


@given(rules_strategy)
def test_a_verdict_is_made_of_enforced_rules_alone(rules: list[Rule]) -> None:
    verdict = judge(completion(), NO_HISTORY, rules)
    enforced = [each for each in rules if each.mode is Mode.ENFORCE and each.check is triggered]
    assert 0 <= verdict.risk <= 1
    assert (verdict.risk > 0) == bool(enforced)
    assert (verdict.consequence is None) == (verdict.reason is None) == (not enforced)
    assert len(verdict.signals) == sum(each.mode is not Mode.OFF and each.check is triggered for each in rules)
