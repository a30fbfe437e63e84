"""Bearer tokens: who may read, update and promote. The file holds hashes alone, and a token is shown once."""

import datetime
import hashlib
import hmac
import json
import pathlib
import re
import secrets
from typing import Literal, NamedTuple

from bayestwin.errors import InvalidInput, InvalidSetting
from bayestwin.results.durable import write_text_durably

TOKENS = ".serve-tokens.json"
"""Name of the file among the results, where no other is named."""

PREFIX = "bt_"
LOOKS_LIKE_ONE = re.compile(r"bt_[A-Za-z0-9_-]{20,}")
"""What is taken out of every line of the log."""

type Role = Literal["read", "update", "promote"]
ROLES: tuple[Role, ...] = ("read", "update", "promote")
"""Each may do all that those before it may."""


class TokenHolder(NamedTuple):
    """Who a token was given to.

    Attributes:
        name: As told.
        role: What it may do.
        sha256: Hash of the token. It is 256 random bits, so that a slow hash would protect nothing more.
        made: When, in UTC.
    """

    name: str
    role: Role
    sha256: str
    made: str

    def may(self, role: Role) -> bool:
        """Whether its role is that one, or one that may do more."""
        return ROLES.index(self.role) >= ROLES.index(role)


def read_tokens(path: pathlib.Path) -> tuple[TokenHolder, ...]:
    """All tokens that were given out; none where there is no file.

    Raises:
        InvalidInput: The file is something else.
    """
    if not path.exists():
        return ()
    try:
        rows = json.loads(path.read_text(encoding="utf-8"))
        found = tuple(TokenHolder(**{key: str(row[key]) for key in TokenHolder._fields}) for row in rows)  # type: ignore[arg-type]
    except (ValueError, TypeError, KeyError, OSError) as reason:
        raise InvalidInput(
            f"`{path}` is no file of tokens.",
            expected="what `bayestwin token` writes",
            received=type(reason).__name__,
            advice="Remove it, and give out tokens anew.",
        ) from reason
    if any(one.role not in ROLES for one in found):
        raise InvalidInput(
            f"`{path}` has a role that there is not.",
            expected=" or ".join(f"`{one}`" for one in ROLES),
            received=", ".join(f"`{one.role}`" for one in found),
            advice="Give that token out anew.",
        )
    return found


def add_token(path: pathlib.Path, name: str, role: Role) -> str:
    """Give out a token, and keep its hash.

    Returns:
        The token, which is kept nowhere.

    Raises:
        InvalidSetting: There is one of that name.
    """
    known = read_tokens(path)
    if not name.strip() or any(one.name == name for one in known):
        raise InvalidSetting(
            f"A token cannot be called `{name}`." if name.strip() else "A token needs a name.",
            expected="a name that none has yet" if name.strip() else "who it is for",
            received=", ".join(f"`{one.name}`" for one in known) or "none",
            advice="Choose another one, or revoke that one first: `bayestwin token NAME --revoke`.",
        )
    token = PREFIX + secrets.token_urlsafe(32)
    made = datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds")
    _write(path, (*known, TokenHolder(name, role, _hash(token), made)))
    return token


def revoke_token(path: pathlib.Path, name: str) -> None:
    """Take a token back: it is refused from the next request on.

    Raises:
        InvalidSetting: There is none of that name.
    """
    known = read_tokens(path)
    kept = tuple(one for one in known if one.name != name)
    if len(kept) == len(known):
        raise InvalidSetting(
            f"There is no token `{name}`.",
            expected=", ".join(f"`{one.name}`" for one in known) or "a token that was given out; there is none",
            received=f"`{name}`",
            advice="Name one of these.",
        )
    _write(path, kept)


def holder_of(token: str, known: tuple[TokenHolder, ...]) -> TokenHolder | None:
    """Who a token was given to; None where nobody. How long that takes does not tell how near it came."""
    digest, found = _hash(token), None
    for one in known:
        if hmac.compare_digest(one.sha256, digest):
            found = one
    return found


def without_tokens(text: str) -> str:
    """A text in which nothing stands that could be a token."""
    return LOOKS_LIKE_ONE.sub(f"{PREFIX}…", text)


def _hash(token: str) -> str:
    return hashlib.sha256(token.encode()).hexdigest()


def _write(path: pathlib.Path, holders: tuple[TokenHolder, ...]) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.touch(mode=0o600)
    write_text_durably(path, json.dumps([one._asdict() for one in holders], indent=1) + "\n")
    path.chmod(0o600)
