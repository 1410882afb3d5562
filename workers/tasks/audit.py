"""The audit's witness: see workers/witness.py."""

from __future__ import annotations

import time
from typing import Any

from engine.config import EngineConfig
from workers import contract, witness
from workers.operation import Act, task


@task(contract.WITNESS)
def note(act: Act) -> dict[str, Any]:
    folder = EngineConfig.from_environment().data / witness.FOLDER
    now_s = int(time.time())
    heads = act.payload["heads"]
    return {"contradicted": [chain for chain, number, hash in heads if not witness.note(folder, chain, number, hash, now_s=now_s)]}
