"""Getting along with other firewalls on the host: dockerd, ufw or an administrator's own, whose forward policy is drop.

An accept in our own table changes nothing there: every base chain of the hook must let a packet pass. So our bridges are
accepted in theirs too, by two rules that iptables-nft can show (no sets, no comments): in Docker's DOCKER-USER, which it leaves
to administrators and never flushes, else at the top of the chain that drops. What our own table refuses stays refused.
"""

from __future__ import annotations

from typing import Any

from engine.kernel.nftables import Nftables

_FAMILIES = ("ip", "ip6", "inet")


def accept_forwarding(nft: Nftables, instance: str) -> list[str]:
    """Add what is missing; returns the chains that got rules ("ip filter DOCKER-USER")."""
    pattern, changed = f"{instance}b*", []
    chains = [item["chain"] for item in nft.list("chains") if "chain" in item]
    for chain in chains:
        if not _drops_forwarding(chain):
            continue
        has_user_chain = any(_place(other) == (chain["family"], chain["table"], "DOCKER-USER") for other in chains)
        family, table, name = chain["family"], chain["table"], "DOCKER-USER" if has_user_chain else chain["name"]
        if not _handles(nft.list(f"chain {family} {table} {name}"), pattern):
            where = f"{family} {table} {name}"
            nft.run(f'insert rule {where} iifname "{pattern}" counter accept\ninsert rule {where} oifname "{pattern}" counter accept\n')
            changed.append(where)
    return changed


def withdraw(nft: Nftables, instance: str) -> None:
    """Our rules out of everybody's chains."""
    chains = [item["chain"] for item in nft.list("chains") if "chain" in item]
    for chain in chains:
        if chain["family"] in _FAMILIES and not chain["table"].startswith("slipway_"):
            where = "{} {} {}".format(*_place(chain))
            for handle in _handles(nft.list(f"chain {where}"), f"{instance}b*"):
                nft.run(f"delete rule {where} handle {handle}\n")


def _drops_forwarding(chain: dict[str, Any]) -> bool:
    return (
        chain["family"] in _FAMILIES
        and chain.get("hook") == "forward"
        and chain.get("type") == "filter"
        and chain.get("policy") == "drop"
        and not chain["table"].startswith("slipway_")
    )


def _place(chain: dict[str, Any]) -> tuple[str, str, str]:
    return chain["family"], chain["table"], chain["name"]


def _handles(listed: list[dict[str, Any]], pattern: str) -> list[int]:
    """Of the rules that match our links by name."""
    found = []
    for item in listed:
        rule = item.get("rule")
        if rule and any(isinstance(part, dict) and part.get("match", {}).get("right") == pattern for part in rule["expr"]):
            found.append(int(rule["handle"]))
    return found
