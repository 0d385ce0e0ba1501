"""The watchdog's judgement, without a graph."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from vla_ros.control.driver_stop import DRIVER_STOPS
from vla_ros.control.enforcer import Enforcer, Report, Request
from vla_ros.control.watchdog import Life, Order, Rule, Verdict, Watchdog
from vla_ros.robots import load_robot, robot_names
from vla_ros.types import SafetyState

TIMEOUT, INTERVAL, ALLOWANCE = 0.3, 0.05, 1.0
POLICY = Rule("inference", "the policy", TIMEOUT, Order.HOLD)
OPERATOR = Rule("operator", "the operator", TIMEOUT, Order.STOP, Order.HOLD)
CONTROLLER = Rule("safety_controller", "the safety controller", TIMEOUT, Order.DRIVER_STOP)


def watchdog(*rules: Rule) -> Watchdog:
    return Watchdog(rules or (POLICY, OPERATOR, CONTROLLER), INTERVAL, ALLOWANCE)


def punctual(dog: Watchdog, begin: float, end: float) -> list[Verdict]:
    """Checks every interval."""
    steps = round((end - begin) / INTERVAL)
    return [dog.check(begin + (k + 1) * INTERVAL) for k in range(steps)]


def test_each_loss_has_its_order_and_the_greater_one_wins() -> None:
    dog = watchdog()
    dog.check(0.0)
    for source, order in (
        ("operator", Order.STOP),
        ("inference", Order.HOLD),
        ("safety_controller", Order.DRIVER_STOP),
    ):
        alone = watchdog()
        alone.check(0.0)
        for other in ("operator", "inference", "safety_controller"):
            alone.beat(other, 1, 0.0)
        for k in range(1, 11):
            for other in {"operator", "inference", "safety_controller"} - {source}:
                alone.beat(other, k + 1, 0.05 * k)
            verdict = alone.check(0.05 * k)
        assert verdict.lives[source] is Life.LOST and verdict.order is order
        assert len(verdict.sentences) == 1 and "0.50 s" in verdict.sentences[0]
        dog.beat(source, 1, 0.0)
    assert punctual(dog, 0.0, 0.5)[-1].order is Order.DRIVER_STOP


def test_alive_late_lost_and_back() -> None:
    dog = watchdog(POLICY)
    assert dog.check(0.0).lives["inference"] is Life.AWAITED
    dog.beat("inference", 1, 0.0)
    lives = [verdict.lives["inference"] for verdict in punctual(dog, 0.0, 0.4)]
    assert lives == sorted(lives) and set(lives) == {Life.ALIVE, Life.LATE, Life.LOST}
    dog.beat("inference", 2, 0.4)
    assert dog.check(0.45).order is Order.NONE


def test_a_beat_whose_count_stands_still_proves_nothing() -> None:
    dog = watchdog(POLICY)
    for k in range(20):
        dog.beat("inference", 7, 0.05 * k)
        verdict = dog.check(0.05 * k)
    assert verdict.lives["inference"] is Life.LOST
    # a process that was started anew counts from the beginning
    dog.beat("inference", 1, 1.0)
    assert dog.check(1.0).lives["inference"] is Life.ALIVE


def test_awaited_orders_what_its_rule_says_and_a_dismissed_or_unneeded_source_nothing() -> None:
    dog = watchdog()
    assert dog.check(0.0).order is Order.HOLD  # for the operator, not for policy and controller
    dog.beat("operator", 1, 0.0)
    dog.beat("safety_controller", 1, 0.0)
    dog.need("operator", False)
    dog.dismiss("safety_controller", 0.0)
    assert punctual(dog, 0.0, 1.0)[-1].order is Order.NONE
    dog.need("operator", True)
    assert dog.check(1.05).order is Order.STOP


def test_the_last_words_of_one_who_leaves_do_not_bring_him_back() -> None:
    dog = watchdog(CONTROLLER)
    dog.beat("safety_controller", 1, 0.0)
    dog.check(0.0)
    dog.dismiss("safety_controller", 0.1)
    for k in range(2, 22):
        dog.beat("safety_controller", k, 0.05 * k)  # it brakes for a second
        assert dog.check(0.05 * k).lives["safety_controller"] is Life.AWAITED
    assert punctual(dog, 1.05, 3.0)[-1].order is Order.NONE
    # on duty again, at once when that was heard, and in the end even if it was not
    dog.engage("safety_controller")
    dog.beat("safety_controller", 1, 3.0)
    assert dog.check(3.05).lives["safety_controller"] is Life.ALIVE
    dog.dismiss("safety_controller", 3.1)
    dog.beat("safety_controller", 2, 8.0)
    assert dog.check(8.0).lives["safety_controller"] is Life.ALIVE


@given(st.floats(0.2, 0.99), st.integers(0, 4))
def test_its_own_stall_is_held_against_nobody(stall: float, before: int) -> None:
    dog = watchdog(CONTROLLER)
    dog.check(0.0)
    dog.beat("safety_controller", 1, 0.0)
    punctual(dog, 0.0, before * INTERVAL)
    begin = before * INTERVAL
    verdict = dog.check(begin + INTERVAL + stall)
    assert verdict.stall == pytest.approx(stall)
    assert verdict.order is Order.NONE  # whatever was sent meanwhile is still to be heard
    # if it stays silent, it is lost as soon as the rest of its time is over
    verdicts = punctual(dog, begin + INTERVAL + stall, begin + 2.0 * TIMEOUT + stall)
    assert verdicts[-1].order is Order.DRIVER_STOP


@given(st.floats(1.4, 100.0))
def test_the_excuse_ends(stall: float) -> None:
    dog = watchdog(CONTROLLER)
    dog.check(0.0)
    dog.beat("safety_controller", 1, 0.0)
    assert dog.check(stall).order is Order.DRIVER_STOP


@given(st.lists(st.floats(0.01, 0.5), min_size=1, max_size=60), st.lists(st.booleans(), min_size=60))
def test_lost_never_before_the_timeout_and_always_after_timeout_and_allowance(
    pauses: list[float], beats: list[bool]
) -> None:
    dog = watchdog(CONTROLLER)
    now = last = 0.0
    dog.beat("safety_controller", 0, 0.0)
    dog.check(0.0)
    for count, (pause, beat) in enumerate(zip(pauses, beats, strict=False), start=1):
        now += pause
        if beat:
            dog.beat("safety_controller", count, now)
            last = now
        life = dog.check(now).lives["safety_controller"]
        if now - last <= TIMEOUT:
            assert life is not Life.LOST
        if now - last > TIMEOUT + ALLOWANCE:
            assert life is Life.LOST


@given(st.integers(1, 40))
def test_without_stalls_the_timeout_is_exact(steps: int) -> None:
    dog = watchdog(CONTROLLER)
    dog.check(0.0)
    dog.beat("safety_controller", 1, 0.0)
    verdicts = punctual(dog, 0.0, steps * INTERVAL)
    for k, verdict in enumerate(verdicts):
        assert (verdict.order is Order.DRIVER_STOP) == ((k + 1) * INTERVAL > TIMEOUT)


# What it asks for.


def verdict(order: Order) -> Verdict:
    return Verdict({}, order, (), 0.0)


def report(at: float, state: SafetyState = SafetyState.RUNNING, paused: bool = False) -> Report:
    return Report(at, SafetyState.HOLDING if paused else state, paused)


def test_a_lost_policy_pauses_and_the_pause_ends_when_it_is_back_for_long_enough() -> None:
    enforcer = Enforcer(resume_after=1.0)
    assert enforcer.requests(verdict(Order.NONE), report(0.0), 0.0) == []
    assert enforcer.requests(verdict(Order.HOLD), report(0.1), 0.1) == [Request.PAUSE]
    assert enforcer.requests(verdict(Order.HOLD), report(0.1), 0.2) == [Request.PAUSE]  # not met yet
    assert enforcer.requests(verdict(Order.HOLD), report(0.3, paused=True), 0.3) == []
    assert enforcer.requests(verdict(Order.NONE), report(0.4, paused=True), 0.4) == []
    # lost again: the time begins anew
    assert enforcer.requests(verdict(Order.HOLD), report(1.0, paused=True), 1.0) == []
    assert enforcer.requests(verdict(Order.NONE), report(1.1, paused=True), 1.1) == []
    assert enforcer.requests(verdict(Order.NONE), report(2.0, paused=True), 2.0) == []
    assert enforcer.requests(verdict(Order.NONE), report(2.2, paused=True), 2.2) == [Request.RESUME]
    assert enforcer.requests(verdict(Order.NONE), report(2.3), 2.3) == []


def test_a_pause_that_takes_effect_after_the_policy_is_back_is_taken_back_too() -> None:
    enforcer = Enforcer(resume_after=1.0)
    assert enforcer.requests(verdict(Order.HOLD), report(0.0), 0.0) == [Request.PAUSE]
    assert enforcer.requests(verdict(Order.NONE), report(0.1), 0.1) == []
    assert enforcer.requests(verdict(Order.NONE), report(0.2, paused=True), 0.2) == []
    assert enforcer.requests(verdict(Order.NONE), report(1.3, paused=True), 1.3) == [Request.RESUME]


def test_a_persons_pause_is_never_taken_back() -> None:
    enforcer = Enforcer(resume_after=0.1)
    enforcer.requests(verdict(Order.HOLD), report(0.0, paused=True), 0.0)
    for k in range(1, 100):
        assert enforcer.requests(verdict(Order.NONE), report(0.1 * k, paused=True), 0.1 * k) == []


def test_without_leave_to_resume_a_person_must() -> None:
    enforcer = Enforcer(resume_after=0.0)
    enforcer.requests(verdict(Order.HOLD), report(0.0), 0.0)
    for k in range(1, 100):
        assert enforcer.requests(verdict(Order.NONE), report(0.1 * k, paused=True), 0.1 * k) == []


def test_a_lost_operator_stops_until_it_shows_and_again_after_a_reset_without_one() -> None:
    enforcer = Enforcer(resume_after=1.0)
    assert enforcer.requests(verdict(Order.STOP), report(0.0), 0.1) == [Request.EMERGENCY_STOP]
    assert enforcer.requests(verdict(Order.STOP), report(0.0), 0.2) == [Request.EMERGENCY_STOP]
    assert enforcer.requests(verdict(Order.STOP), report(0.3, SafetyState.STOPPING), 0.3) == []
    # a reset while the operator is still lost does not help
    assert enforcer.requests(verdict(Order.STOP), report(5.0, SafetyState.IDLE), 5.0) == [
        Request.EMERGENCY_STOP
    ]
    enforcer.requests(verdict(Order.STOP), report(5.1, SafetyState.STOPPED), 5.1)
    assert enforcer.requests(verdict(Order.NONE), report(6.0, SafetyState.IDLE), 6.0) == []


def test_a_lost_controller_owes_a_stop_even_when_it_comes_back_and_the_driver_is_told_once() -> None:
    enforcer = Enforcer(resume_after=1.0)
    # it was stopped when it was last heard of: that says nothing about now
    last = report(0.0, SafetyState.STOPPED)
    both = [Request.DRIVER_STOP, Request.EMERGENCY_STOP]
    assert enforcer.requests(verdict(Order.DRIVER_STOP), last, 0.4) == both
    assert enforcer.requests(verdict(Order.DRIVER_STOP), last, 0.5) == both
    enforcer.driver_told()
    assert enforcer.requests(verdict(Order.DRIVER_STOP), last, 0.6) == [Request.EMERGENCY_STOP]
    assert enforcer.requests(verdict(Order.NONE), report(0.7), 0.7) == [Request.EMERGENCY_STOP]
    assert enforcer.requests(verdict(Order.NONE), report(0.8, SafetyState.STOPPING), 0.8) == []
    # a person's reset is respected
    assert enforcer.requests(verdict(Order.NONE), report(9.0, SafetyState.IDLE), 9.0) == []
    assert enforcer.requests(verdict(Order.DRIVER_STOP), report(9.0, SafetyState.IDLE), 10.0) == both


orders = st.sampled_from(list(Order))
states = st.sampled_from(list(SafetyState))


@given(st.lists(st.tuples(orders, states, st.booleans()), max_size=80))
def test_whatever_happens_it_never_resumes_a_stop_nor_while_somebody_is_lost(
    story: list[tuple[Order, SafetyState, bool]],
) -> None:
    enforcer = Enforcer(resume_after=0.2)
    asked_to_pause = False
    for k, (order, state, paused) in enumerate(story):
        now = 0.1 * k
        requests = enforcer.requests(verdict(order), report(now, state, paused and state < 4), now)
        asked_to_pause |= Request.PAUSE in requests
        if Request.RESUME in requests:
            assert order is Order.NONE and state < SafetyState.STOPPING and asked_to_pause


def test_every_robots_driver_has_its_words_and_the_widowx_is_told_nothing() -> None:
    for name in robot_names():
        assert DRIVER_STOPS[load_robot(name).driver.kind].sentence
    assert DRIVER_STOPS["interbotix"].service == ""
    assert "torque stays on" in DRIVER_STOPS["interbotix"].sentence
