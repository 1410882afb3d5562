"""Docker's progress lines: {"status", "id", "progressDetail": {"current", "total"}, "progress": the bar as text}."""

from __future__ import annotations

from typing import Any, Final

_UNITS: Final = ("B", "kB", "MB", "GB", "TB", "PB")
_BAR: Final = 50  # characters


def progress(status: str, short_id: str, current: int, total: int) -> dict[str, Any]:
    """``progress`` is what docker clients before API 1.48 print as it is; 0 bytes in total means unknown."""
    detail = {"current": current, "total": total} if total else {"current": current}
    return {"status": status, "progressDetail": detail, "progress": _bar(current, total), "id": short_id}


def human_size(size: float) -> str:
    """Four significant digits, powers of a thousand: 4.495MB."""
    unit = 0
    while size >= 1000 and unit < len(_UNITS) - 1:
        size, unit = size / 1000, unit + 1
    return f"{size:.4g}{_UNITS[unit]}"


def _bar(current: int, total: int) -> str:
    if not total or current > total:
        return f"{human_size(current):>8}"
    done = min(int(current / total * 100) // 2, _BAR)
    return f"[{'=' * done}>{' ' * (_BAR - done)}] {human_size(current):>8}/{human_size(total)}"
