"""The page behind a link: what is asked, in plain HTML, and one button. No script, nothing fetched.

Values are escaped here and nowhere else. The link in the address is a secret, so the page is not
stored, not framed, and tells nobody where it was come from.
"""

from __future__ import annotations

import hashlib
from base64 import b64encode
from collections.abc import Iterable, Mapping
from html import escape
from typing import Any

from agent.core.approvals.service import Linked
from agent.domain.definition import ApprovalState
from agent.domain.instants import format_instant
from agent.wire.strict_json import encode_text

PAYLOAD_CHARS_SHOWN = 4096
REASON_CHARS_MAX = 1024
_STYLE = (
    "body{font:16px/1.5 sans-serif;max-width:44em;margin:2em auto;padding:0 1em}"
    "th{text-align:left;vertical-align:top;padding-right:1em;white-space:nowrap}"
    "td{overflow-wrap:anywhere}pre{white-space:pre-wrap;margin:0}"
    "button{font:inherit;padding:.5em 2em}input{font:inherit;width:100%}"
)
_STYLE_HASH = b64encode(hashlib.sha256(_STYLE.encode()).digest()).decode()
HEADERS: Mapping[str, str] = {
    "cache-control": "no-store",
    "referrer-policy": "no-referrer",
    "x-content-type-options": "nosniff",
    "x-frame-options": "DENY",
    "x-robots-tag": "noindex",
    "content-security-policy": (
        f"default-src 'none'; style-src 'sha256-{_STYLE_HASH}'; form-action 'self'; "
        "base-uri 'none'; frame-ancestors 'none'"
    ),
}
_VERB = {ApprovalState.APPROVED.value: "Approve", ApprovalState.REJECTED.value: "Reject"}


def question_page(linked: Linked) -> str:
    """What is asked, and the button that answers it; loading it decides nothing."""
    claim, asked = linked.claim, linked.approval
    verb = _VERB[claim.v]
    title = f"{verb} {asked['kind']} on {_where(asked)}?"
    form = (
        '<form method="post"><p><label>Why (kept with the decision)<br>'
        f'<input name="reason" maxlength="{REASON_CHARS_MAX}" autocomplete="off"></label></p>'
        f"<p><button>{verb}</button></p></form>"
        f"<p>You act as <b>{escape(claim.acts_as)}</b>. This link ends at "
        f"{escape(format_instant(claim.expires_at))}.</p>"
    )
    return _page(title, _table(_lines(asked)) + form)


def answered_page(linked: Linked) -> str:
    """Done."""
    asked = linked.approval
    told = f"{asked['kind']} on {_where(asked)} was {asked['state']} by {asked['decided_by']}."
    return _page("Done", f"<p>{escape(told)}</p>" + _table(_lines(asked)))


def refusal_page(message: str) -> str:
    """Why the link does nothing."""
    return _page("Nothing was changed", f"<p>{escape(message)}</p>")


def _lines(asked: Mapping[str, Any]) -> list[tuple[str, Any]]:
    made = asked["definition"]
    return [
        ("What", asked["kind"]),
        ("Where", _where(asked)),
        ("Service", asked["service"]),
        ("Action", asked["action_id"]),
        ("Risk", asked["risk"] or "not classified"),
        ("It waits because", asked["why"]),
        ("Asked for by", asked["requested_by"]),
        ("Proposed by", asked["proposed_by"]),
        ("Confidence", asked["confidence"]),
        ("Since", asked["requested_at"]),
        ("Expires", asked["expires_at"]),
        ("From", made.get("from_date")),
        ("Until", made.get("to_date")),
        ("Schedule", _json(made.get("schedule"))),
        ("Payload", _json(made.get("payload"))),
        ("Changes", _json(asked.get("changes"))),
        ("Digest", asked["digest"]),
    ]


def _where(asked: Mapping[str, Any]) -> str:
    """Its node, or, of a recurring action for several, their selector."""
    return str(asked["node"] or asked["definition"].get("selector") or "?")


def _json(value: Any) -> str | None:
    if not value:
        return None
    text = encode_text(value)
    if len(text) <= PAYLOAD_CHARS_SHOWN:
        return text
    return f"{text[:PAYLOAD_CHARS_SHOWN]}… ({len(text)} characters; corectl approvals shows all)"


def _table(lines: Iterable[tuple[str, Any]]) -> str:
    rows = [
        f"<tr><th>{name}</th><td>{escape(str(value))}</td></tr>"
        for name, value in lines
        if value is not None
    ]
    return f"<table>{''.join(rows)}</table>"


def _page(title: str, body: str) -> str:
    return (
        '<!doctype html><html lang="en"><head><meta charset="utf-8">'
        '<meta name="viewport" content="width=device-width">'
        f"<title>{escape(title)}</title><style>{_STYLE}</style></head>"
        f"<body><h1>{escape(title)}</h1>{body}</body></html>\n"
    )
