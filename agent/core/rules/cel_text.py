"""The text of CEL as pieces: enough of its lexical grammar to find where an expression ends.

Whether an expression is one is for the library to say (`cel_program`). Here a `.cel` file is cut
into its expressions, each with the comments above it, and the shape of an expression is known that
the bounds are about (`cel_limits`).
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field

from agent.domain.errors import shown

_OPENING, _CLOSING = frozenset("([{"), frozenset(")]}")
_AMBIGUOUS = frozenset("([{-")  # after a value they may go on with it, or begin the next expression
_PIECE = re.compile(
    r"""
      (?P<space>[\ \t\r\f]+)
    | (?P<newline>\n)
    | (?P<comment>//[^\n]*)
    | (?P<text>
          [bB]?[rR](?:\"\"\"[\s\S]*?\"\"\"|'''[\s\S]*?'''|"[^"\n]*"|'[^'\n]*')
        | [bB]?(?:\"\"\"(?:\\[\s\S]|[^\\])*?\"\"\"|'''(?:\\[\s\S]|[^\\])*?'''
                 |"(?:\\.|[^"\\\n])*"|'(?:\\.|[^'\\\n])*')
      )
    | (?P<number>0[xX][0-9a-fA-F]+[uU]?|(?:[0-9]+\.[0-9]+|\.[0-9]+|[0-9]+)(?:[eE][+-]?[0-9]+)?[uU]?)
    | (?P<name>[A-Za-z_][A-Za-z0-9_]*)
    | (?P<sign>&&|\|\||[=!<>]=|[-+*/%<>!?:.,()\[\]{}])
    """,
    re.VERBOSE,
)


class BadText(Exception):
    """Not a piece of CEL; `line` is where."""

    def __init__(self, line: int, message: str) -> None:
        self.line = line
        super().__init__(message)


@dataclass(frozen=True, slots=True)
class Token:
    """One piece that means something."""

    kind: str
    text: str
    line: int
    start: int
    """Offset in the text that was cut."""

    @property
    def ends_value(self) -> bool:
        """Whether a value can end with it."""
        if self.kind == "sign":
            return self.text in _CLOSING
        return self.text != "in"

    @property
    def is_literal(self) -> bool:
        """A text, a number, true, false, null."""
        return self.kind in ("text", "number") or self.text in ("true", "false", "null")


@dataclass(frozen=True, slots=True)
class Comment:
    """What stands behind `//`."""

    text: str
    line: int


@dataclass(slots=True)
class Expression:
    """One expression of a file, and the comments that stand directly above it."""

    tokens: list[Token]
    comments: list[Comment] = field(default_factory=list)

    @property
    def line(self) -> int:
        """Where it begins."""
        return self.tokens[0].line


@dataclass(slots=True)
class CelFile:
    """A file in pieces. `header` is the block of comments at its top, if a blank line follows."""

    header: list[Comment] = field(default_factory=list)
    expressions: list[Expression] = field(default_factory=list)
    stray: list[Comment] = field(default_factory=list)
    """Comments that belong to no expression."""


def pieces_of(text: str, line: int = 1) -> Iterator[Token | Comment]:
    """Tokens and comments in order. Raises `BadText` at the first that is neither."""
    at = 0
    while at < len(text):
        match = _PIECE.match(text, at)
        if match is None or match.lastgroup is None:
            raise BadText(line, _not_a_piece(text, at))
        found = match.group()
        if match.lastgroup == "comment":
            yield Comment(found[2:].strip(), line)
        elif match.lastgroup not in ("space", "newline"):
            yield Token(match.lastgroup, found, line, at)
        line += found.count("\n")
        at = match.end()


def _not_a_piece(text: str, at: int) -> str:
    if text[at] in "\"'":
        return "a text that begins here has no end"
    if text[at] in "&|=":
        return f"{text[at]!r} alone means nothing; write {text[at] * 2}"
    return f"{shown(text[at])} has no place in CEL"


def tokens_of(text: str) -> list[Token]:
    """The tokens alone. Raises `BadText`."""
    return [piece for piece in pieces_of(text) if isinstance(piece, Token)]


def cut(text: str) -> CelFile:
    """The expressions of a file. Raises `BadText`.

    An expression goes on over lines as long as its brackets are open, or its line ends, or the next
    one begins, with something that needs two sides. Else the next line begins another one.
    """
    found = CelFile()
    comments: list[Comment] = []
    last_line = 0  # of the token before
    depth = 0
    for piece in pieces_of(text):
        if isinstance(piece, Comment):
            if piece.line != last_line:  # behind an expression it is that one's
                comments.append(piece)
            continue
        if not found.expressions or (
            depth == 0 and _begins_another(found.expressions[-1].tokens[-1], piece, comments)
        ):
            found.expressions.append(Expression([], _directly_above(piece, comments, found)))
        comments = []
        found.expressions[-1].tokens.append(piece)
        depth = max(0, depth + (piece.text in _OPENING) - (piece.text in _CLOSING))
        last_line = piece.line + piece.text.count("\n")
    found.stray += comments
    return found


def _begins_another(before: Token, token: Token, between: Sequence[Comment]) -> bool:
    ended = before.line + before.text.count("\n")
    if token.line == ended or not before.ends_value:
        return False
    if token.kind != "sign":
        return token.text != "in"
    if token.text == "!":
        return True
    return token.text in _AMBIGUOUS and (token.line > ended + 1 or bool(between))


def _directly_above(token: Token, comments: list[Comment], found: CelFile) -> list[Comment]:
    """The last block without a blank line; the first of the file may be its header."""
    blocks: list[list[Comment]] = []
    for comment in comments:
        if blocks and blocks[-1][-1].line == comment.line - 1:
            blocks[-1].append(comment)
        else:
            blocks.append([comment])
    mine = blocks.pop() if blocks and blocks[-1][-1].line == token.line - 1 else []
    if blocks and not found.expressions:
        found.header = blocks.pop(0)
    found.stray += [comment for block in blocks for comment in block]
    return mine
