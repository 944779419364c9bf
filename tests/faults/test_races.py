"""The same token, a hundred times at once over several processes: in and after its time, with old keys, by others."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass

from cryptography.fernet import Fernet

from tests.faults.attempts import Json, Log
from tests.faults.cast import Account, cast_of
from tests.faults.conftest import StartTrial
from tests.faults.driver import Driver
from tests.faults.instances import further_instances
from tests.faults.scale import Scale
from tests.faults.volley import Answer, Shot, fire, fire_at
from tests.functional.client import QUICK, Api, completion, data_of, eventually
from tests.service import Service

COMPLETE = "/v1/actions/complete"
AT_ONCE = 100
REFUSED_TOKEN, EXPIRED, TAKEN = (
    (400, "INVALID_ACTION_TOKEN"),
    (400, "ACTION_TOKEN_EXPIRED"),
    (409, "ACTION_ALREADY_COMPLETED"),
)
# Long enough to come through a request, short enough to wait for.
TTL_S = 3


def issue(url: str, account: Account) -> Json:
    return data_of(Api(url, account.token).post("/v1/actions/request", {"actionType": QUICK, "metadata": {}}))


def bodies(action: Json, count: int = AT_ONCE) -> list[Json]:
    """So many different completions of one action, each of them right by itself."""
    return [completion(action, number) for number in range(count)]


def shots(account: Account, completions: Sequence[Json], prefer: str = "") -> list[Shot]:
    return [Shot(COMPLETE, account.token, each, prefer) for each in completions]


def kinds(answers: Sequence[Answer]) -> Counter[tuple[int, str]]:
    return Counter((answer.status, answer.code) for answer in answers)


def sent(log: Log, action: Json, account: Account) -> None:
    """Note a completion of this action."""
    log.sent(log.attempt(action["actionId"], account.id, account.token))


def acknowledge(log: Log, action: Json, answers: Sequence[Answer]) -> None:
    """Note the answers that acknowledge this action; every other one is a refusal that has been looked at."""
    attempt = log.attempts[action["actionId"]]
    for answer in answers:
        if answer.status in (200, 202):
            assert answer.body["data"]["actionId"] == action["actionId"]
            log.answered(attempt, answer.status, answer.body)


def refuse(log: Log, action: Json, account: Account) -> None:
    """Note an action that every completion was refused for: to be counted it would have to come from nowhere."""
    attempt = log.attempt(action["actionId"], account.id)
    log.sent(attempt)
    attempt.refused = 400


def status_of(url: str, account: Account, action: Json) -> str:
    return str(data_of(Api(url, account.token).get(f"/v1/actions/{action['actionId']}"))["status"])


def test_one_token_is_consumed_once(
    fault_service: Service, driver: Driver, start_trial: StartTrial, scale: Scale
) -> None:
    log = Log()
    with start_trial(
        "one token, a hundred completions at once",
        "a hundred different completions of one action sent in one moment over all web processes, and again when it "
        "is settled; the same with a hundred identical ones",
        "one 202 and 99 times 409; identical ones all get the one answer",
    ) as trial:
        for account in cast_of(fault_service).take(scale.pick(2, 20)):
            first = issue(fault_service.url, account)
            sent(log, first, account)
            different = shots(account, bodies(first))
            answers = fire(fault_service, driver, different)
            assert kinds(answers) == {(202, ""): 1, TAKEN: AT_ONCE - 1}
            acknowledge(log, first, answers)
            again = issue(fault_service.url, account)
            sent(log, again, account)
            same = shots(account, [completion(again)] * AT_ONCE)
            answers = fire(fault_service, driver, same)
            # The last one may find it settled.
            assert {answer.status for answer in answers} <= {200, 202}
            acknowledge(log, again, answers)
            trial.hit(2)
        trial.count(fault_service, log)
        # All are settled now; those of the last round once more.
        answers = fire(fault_service, driver, different)
        assert kinds(answers) == {(200, ""): 1, TAKEN: AT_ONCE - 1}
        acknowledge(log, first, answers)
        answers = fire(fault_service, driver, same)
        assert kinds(answers) == {(200, ""): AT_ONCE}
        assert len({str(answer.body["data"]) for answer in answers}) == 1
        acknowledge(log, again, answers)
        trial.hit(2)
        assert trial.count(fault_service, log).acknowledged == 2 * len(log.users)


def test_a_token_is_of_no_use_to_another(fault_service: Service, driver: Driver, start_trial: StartTrial) -> None:
    log = Log()
    owner, thief = cast_of(fault_service).take(2)
    log.add_users([thief.id])
    with start_trial(
        "another's token",
        "a hundred right completions of one action sent by another player, alone and around the owner's own",
        "400 INVALID_ACTION_TOKEN for the other, 202 for the owner",
    ) as trial:
        action = issue(fault_service.url, owner)
        stolen = shots(thief, bodies(action))
        assert kinds(fire(fault_service, driver, stolen)) == {REFUSED_TOKEN: AT_ONCE}
        assert status_of(fault_service.url, owner, action) == "issued"
        sent(log, action, owner)
        # The very body that the owner sends is among the other's.
        half = AT_ONCE // 2
        answers = fire(fault_service, driver, stolen[:half] + shots(owner, [completion(action)]) + stolen[half:])
        assert kinds(answers) == {REFUSED_TOKEN: AT_ONCE, (202, ""): 1}
        acknowledge(log, action, [answers[half]])
        assert kinds(fire(fault_service, driver, stolen)) == {REFUSED_TOKEN: AT_ONCE}
        trial.hit(3)
        trial.count(fault_service, log)


@dataclass(frozen=True)
class Phases:
    """Instances of one service in three phases of a rotation of keys, side by side."""

    before: str
    during: str
    after: str


@contextmanager
def rotating(service: Service) -> Iterator[Phases]:
    """One web process each; where the old key has been dropped tokens live for ``TTL_S`` only."""
    old = Fernet.generate_key().decode()
    printed = service.run("keys", "rotate", ACTION_TOKEN_KEYS=old).stdout.strip().removeprefix("ACTION_TOKEN_KEYS=")
    new = printed.removesuffix(f",{old}")
    assert new != printed, printed
    environments = [
        {"WEB_CONCURRENCY": "1", "ACTION_TOKEN_KEYS": old},
        {"WEB_CONCURRENCY": "1", "ACTION_TOKEN_KEYS": printed},
        {"WEB_CONCURRENCY": "1", "ACTION_TOKEN_KEYS": new, "ACTION_TOKEN_TTL_S": str(TTL_S)},
    ]
    with further_instances(service, *environments) as instances:
        yield Phases(*(instance.url for instance in instances))


def test_a_token_ends_with_its_time_and_with_its_key(
    fault_service: Service, driver: Driver, start_trial: StartTrial
) -> None:
    with rotating(fault_service) as phases:
        end_with_time(fault_service, driver, [phases.after, phases.during], start_trial)
        end_with_key(fault_service, phases, start_trial)


def end_with_time(service: Service, driver: Driver, urls: Sequence[str], start_trial: StartTrial) -> None:
    """``urls``: instances that know the same key; the first issues tokens that live for ``TTL_S``."""
    log = Log()
    late, timely = cast_of(service).take(2)
    with start_trial(
        "a token after its time",
        "a hundred completions at once of an action that has expired, and of one that was accepted in time and "
        "settled after it",
        "400 ACTION_TOKEN_EXPIRED for the one; the other is applied, and says so",
    ) as trial:
        with driver.frozen("worker"):
            accepted = issue(urls[0], timely)
            sent(log, accepted, timely)
            in_time = shots(timely, [completion(accepted)])
            answers = fire_at(urls, in_time * 2)
            assert kinds(answers) == {(202, ""): 2}
            acknowledge(log, accepted, answers)
            expired = issue(urls[0], late)
            refuse(log, expired, late)
            # Issued later, so the other's time is over as well by then.
            eventually(lambda: status_of(service.url, late, expired), lambda status: status == "expired", 30)
            assert kinds(fire_at(urls, shots(late, bodies(expired)))) == {EXPIRED: AT_ONCE}
        trial.hit()
        trial.count(service, log)
        answers = fire_at(urls, in_time * AT_ONCE)
        assert {answer.body["data"]["status"] for answer in answers} == {"applied"}
        acknowledge(log, accepted, answers)
        assert kinds(fire_at(urls, shots(late, bodies(expired)))) == {EXPIRED: AT_ONCE}
        trial.hit(2)
        trial.count(service, log)


def end_with_key(service: Service, phases: Phases, start_trial: StartTrial) -> None:
    log = Log()
    graced, retired = cast_of(service).take(2)
    with start_trial(
        "a token after a rotation of keys",
        "a hundred completions at once of a token of the old key, where that is still known and where it has been "
        "dropped; instances in all phases of the rotation side by side",
        "one 202 and 99 times 409 where the old key is known, 400 INVALID_ACTION_TOKEN where it is not",
    ) as trial:
        action, other = issue(phases.before, graced), issue(phases.before, retired)
        assert kinds(fire_at([phases.after], shots(graced, bodies(action)))) == {REFUSED_TOKEN: AT_ONCE}
        sent(log, action, graced)
        answers = fire_at([phases.before, phases.during], shots(graced, bodies(action)))
        assert kinds(answers) == {(202, ""): 1, TAKEN: AT_ONCE - 1}
        acknowledge(log, action, answers)
        # Also for the one whose body was accepted: the key that would show it to be theirs is gone.
        assert kinds(fire_at([phases.after], shots(graced, bodies(action)))) == {REFUSED_TOKEN: AT_ONCE}
        # A refusal has used nothing up.
        assert kinds(fire_at([phases.after], shots(retired, bodies(other)))) == {REFUSED_TOKEN: AT_ONCE}
        sent(log, other, retired)
        answers = fire_at([phases.during, phases.before], shots(retired, bodies(other)))
        assert kinds(answers) == {(202, ""): 1, TAKEN: AT_ONCE - 1}
        acknowledge(log, other, answers)
        # One of the new key works wherever that is known.
        fresh = issue(phases.during, graced)
        sent(log, fresh, graced)
        answers = fire_at([phases.during, phases.after], shots(graced, bodies(fresh)))
        assert kinds(answers) == {(202, ""): 1, TAKEN: AT_ONCE - 1}
        acknowledge(log, fresh, answers)
        trial.hit(6)
        trial.count(service, log)
