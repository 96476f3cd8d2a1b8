"""How much of a flow a page holds, so that a browser can open it and a mail can carry it."""

import msgspec

__all__ = ["PageLimits"]


class PageLimits(msgspec.Struct, frozen=True, kw_only=True):
    """What is above a limit is left out, and the page says what and how much.

    Of more than `events` events the first and the last half are listed; of a step the latest `attempts` and `signals`.
    `text` is in characters a payload or preview, `image` in bytes an image; `embedded` is in characters and bytes of all
    events together, and again of all artifacts together.
    """

    events: int = 2_000
    steps: int = 500
    attempts: int = 100
    signals: int = 500
    artifacts: int = 200
    molecules: int = 24
    text: int = 20_000
    image: int = 512 * 2**10
    embedded: int = 8 * 2**20
