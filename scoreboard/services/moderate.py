"""What an admin does to an account: ban, unban, flag, clear, adjust. Each change is audited with its reason."""

from __future__ import annotations

from dataclasses import dataclass
from uuid import UUID

import sqlalchemy as sa

from scoreboard.domain import ledger
from scoreboard.domain.accounts import Role, Status
from scoreboard.domain.actions import MAX_SAFE_INTEGER
from scoreboard.domain.errors import InsufficientPermissions, NotFound, ValidationFailed
from scoreboard.live.events import EventLog, user_ended
from scoreboard.live.standings import Standings
from scoreboard.services.publish import publish_quietly, publish_standing
from scoreboard.store import audit, sessions, users
from scoreboard.store import ledger as ledger_store
from scoreboard.store.audit import AuditEvent, Origin
from scoreboard.store.engine import Database
from scoreboard.store.sessions import Caller
from scoreboard.store.users import User


@dataclass(frozen=True)
class Moderation:
    """Use cases of one admin; every method raises NotFound for an unknown account."""

    database: Database
    standings: Standings
    events: EventLog
    admin: Caller
    origin: Origin

    def ban(self, user_id: UUID, reason: str) -> User:
        """Off the board, signed out, streams ended, all at once. Raises InsufficientPermissions for an admin."""
        with self.database.write() as connection:
            user = self._lock(connection, user_id)
            if user.role is Role.ADMIN:
                raise InsufficientPermissions("An admin can't be banned.")
            if user.is_banned:
                return user
            changed = users.change_user(connection, user_id, status=Status.BANNED.value)
            sessions.revoke_all(connection, user_id, "banned")
            self._audit(connection, "user.banned", user_id, reason)
        publish_quietly(self.events, [user_ended(user_id)])
        publish_standing(self.database, self.standings, self.events, user_id)
        return changed

    def unban(self, user_id: UUID, reason: str) -> User:
        """Back on the board with the score and place it has."""
        return self._change_status(user_id, reason, "user.unbanned", {Status.BANNED}, Status.ACTIVE)

    def flag(self, user_id: UUID, reason: str) -> User:
        """Mark as suspicious: one completion a minute from now on."""
        return self._change_status(user_id, reason, "user.flagged", {Status.ACTIVE}, Status.FLAGGED)

    def clear(self, user_id: UUID, reason: str) -> User:
        """Take the suspicion back; a ban stays."""
        return self._change_status(user_id, reason, "user.cleared", {Status.FLAGGED}, Status.ACTIVE)

    def adjust(self, user_id: UUID, amount: int, reason: str) -> User:
        """Change a score by an amount, with a ledger entry. Raises ValidationFailed when it would leave its bounds."""
        with self.database.write() as connection:
            user = self._lock(connection, user_id)
            now = connection.execute(sa.select(sa.func.clock_timestamp())).scalar_one()
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
        publish_standing(self.database, self.standings, self.events, user_id)
        return changed

    def _change_status(self, user_id: UUID, reason: str, event: str, before: set[Status], after: Status) -> User:
        """Asked for twice, or of an account in another state, it changes nothing."""
        with self.database.write() as connection:
            user = self._lock(connection, user_id)
            if user.status not in before:
                return user
            changed = users.change_user(connection, user_id, status=after.value)
            self._audit(connection, event, user_id, reason)
        publish_standing(self.database, self.standings, self.events, user_id)
        return changed

    def _lock(self, connection: sa.Connection, user_id: UUID) -> User:
        user = users.lock_user(connection, user_id)
        if user is None:
            raise NotFound("There is no such account.")
        return user

    def _audit(self, connection: sa.Connection, event: str, user_id: UUID, reason: str, **details: object) -> None:
        told = {"reason": reason, **details}
        audit.record(connection, AuditEvent(event, self.admin.user_id, user_id, origin=self.origin, details=told))
