"""An admin's changes to an account: ban, unban, flag, clear, adjust. Each change is audited with its reason."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from uuid import UUID

import sqlalchemy as sa

from scoreboard.domain import ledger
from scoreboard.domain.accounts import Role, Status
from scoreboard.domain.actions import MAX_SAFE_INTEGER
from scoreboard.domain.errors import InsufficientPermissions, NotFound, ValidationFailed
from scoreboard.live.standings import Standings
from scoreboard.live.stream.events import EventLog, user_ended
from scoreboard.services.accounts.account import from_stored, show_account, stored_form
from scoreboard.services.boards.publish import publish_quietly, publish_standing
from scoreboard.store import audit, idempotency, sessions, users
from scoreboard.store import ledger as ledger_store
from scoreboard.store.audit import AuditEvent, Origin
from scoreboard.store.engine import Database
from scoreboard.store.idempotency import KeyedRequest
from scoreboard.store.sessions import Caller
from scoreboard.store.transactions import read_clock
from scoreboard.store.users import User
from scoreboard.wire.answers import AdminUser

# Makes the change to a locked account in a transaction; None leaves it as it is.
Change = Callable[[sa.Connection, User], User | None]


@dataclass(frozen=True)
class Moderation:
    """Use cases of one admin; every method raises NotFound for an unknown account.

    With a ``request`` the very same request again, at once or for a day, changes nothing and gets the first answer;
    another one under its key raises IdempotencyMismatch. A refusal leaves the key unused.
    """

    database: Database
    standings: Standings
    events: EventLog
    admin: Caller
    origin: Origin
    request: KeyedRequest | None = None

    def ban(self, user_id: UUID, reason: str) -> AdminUser:
        """Off the board, signed out, streams ended, all at once. Raises InsufficientPermissions for an admin."""

        def change(connection: sa.Connection, user: User) -> User | None:
            if user.role is Role.ADMIN:
                raise InsufficientPermissions("An admin can't be banned.")
            if user.is_banned:
                return None
            before, banned = user.status.value, Status.BANNED.value
            changed = users.change_user(connection, user_id, status=banned, status_before_ban=before)
            sessions.revoke_all(connection, user_id, "banned")
            self._audit(connection, "user.banned", user_id, reason)
            return changed

        return self._change(user_id, change, ends_streams=True)

    def unban(self, user_id: UUID, reason: str) -> AdminUser:
        """Put the account back on the board, flagged if it was flagged when it was banned."""

        def change(connection: sa.Connection, user: User) -> User | None:
            if not user.is_banned:
                return None
            status = user.status_before_ban or Status.ACTIVE
            changed = users.change_user(connection, user_id, status=status.value, status_before_ban=None)
            self._audit(connection, "user.unbanned", user_id, reason)
            return changed

        return self._change(user_id, change)

    def flag(self, user_id: UUID, reason: str) -> AdminUser:
        """Mark as suspicious: one completion a minute from now on, or from the end of a ban on."""
        return self._judge(user_id, reason, "user.flagged", Status.FLAGGED)

    def clear(self, user_id: UUID, reason: str) -> AdminUser:
        """Take the flag away; a ban stays, and leaves the account unflagged when it ends."""
        return self._judge(user_id, reason, "user.cleared", Status.ACTIVE)

    def _judge(self, user_id: UUID, reason: str, event: str, status: Status) -> AdminUser:
        """Make the account flagged or active; a banned one becomes so at the end of the ban."""

        def change(connection: sa.Connection, user: User) -> User | None:
            present = (user.status_before_ban or Status.ACTIVE) if user.is_banned else user.status
            if present is status:
                return None
            if user.is_banned:
                changed = users.change_user(connection, user_id, status_before_ban=status.value)
            else:
                changed = users.change_user(connection, user_id, status=status.value)
            self._audit(connection, event, user_id, reason)
            return changed

        return self._change(user_id, change)

    def adjust(self, user_id: UUID, amount: int, reason: str) -> AdminUser:
        """Change a score by an amount, with a ledger entry. Raises ValidationFailed when it would leave its bounds."""

        def change(connection: sa.Connection, user: User) -> User:
            now = read_clock(connection)
            if not 0 <= user.score + amount <= MAX_SAFE_INTEGER:
                raise ValidationFailed(
                    {"amount": f"would take the score of {user.score} out of its range, 0 to {MAX_SAFE_INTEGER}"}
                )
            entry = ledger.append(
                user_id=user_id,
                seq=user.ledger_seq,
                previous_score=user.score,
                previous_hash=user.ledger_hash,
                increment=amount,
                at=now,
                reason=reason,
                actor_id=self.admin.user_id,
            )
            ledger_store.append_entry(connection, entry)
            changed = users.change_user(
                connection,
                user_id,
                previous_score=entry.previous_score,
                score=entry.new_score,
                score_reached_at=max(user.score_reached_at, now),
                ledger_seq=entry.seq,
                ledger_hash=entry.hash,
            )
            self._audit(connection, "score.adjusted", user_id, reason, amount=amount, newScore=entry.new_score)
            return changed

        return self._change(user_id, change)

    def _change(self, user_id: UUID, change: Change, *, ends_streams: bool = False) -> AdminUser:
        """Lock the account, change it and keep the answer in one transaction, then tell of it if anything changed."""
        with self.database.write() as connection:
            if self.request is not None and (kept := idempotency.claim(connection, self.request)) is not None:
                return from_stored(kept)
            user = users.lock_user(connection, user_id)
            if user is None:
                raise NotFound("There is no such account.")
            changed = change(connection, user)
            account = show_account(changed or user)
            if self.request is not None:
                idempotency.keep_answer(connection, self.request, stored_form(account))
        if changed is not None:
            if ends_streams:
                publish_quietly(self.events, [user_ended(user_id)])
            publish_standing(self.database, self.standings, self.events, user_id)
        return account

    def _audit(self, connection: sa.Connection, event: str, user_id: UUID, reason: str, **details: object) -> None:
        told = {"reason": reason, **details}
        audited = AuditEvent(
            event,
            actor_id=self.admin.user_id,
            target_id=user_id,
            origin=self.origin,
            details=told,
        )
        audit.record(connection, audited)
