"""Names for containers that were given none: adjective_noun, as people know it from Docker; words of the sea and of harbours."""

from __future__ import annotations

import secrets
from typing import Final


def _words(text: str) -> tuple[str, ...]:
    return tuple(text.split())


_ADJECTIVES: Final = _words("""
    able amber ample azure blithe bold brave breezy bright brisk calm candid cheery clear clever coastal cosy crisp daring deft
    distant dreamy eager early earnest even fabled fair fearless fleet fluent fond frank free fresh gallant gentle glad golden
    graceful grand hardy hearty helpful honest hopeful humble jolly keen kind lasting lean light limber lively loyal lucid lucky
    mellow merry mild modest neat nimble noble northern open patient placid plucky polite prompt proud quick quiet radiant ready
    robust rolling rosy salty sandy serene silent silver sincere sleek snug sober southern sparkling spry steady still stout sunny
    swift tender thrifty tidal tidy tranquil trim trusty upbeat vivid warm watchful western willing windy wise witty young zesty
""")
_NOUNS: Final = _words("""
    albatross anchor anemone barge barnacle bay beacon bight boatswain bollard bowsprit brig bulkhead buoy cabin canoe capstan
    caravel catamaran channel clam cleat clipper cockle compass coral corvette cove crab crane current cutter davit deck delta
    derrick dinghy dock dolphin dory eddy estuary fathom ferry fjord flotilla freighter frigate galleon galley gannet gull halyard
    harbour hawser heron herring hull inlet jetty kayak keel kelp ketch kittiwake lagoon launch lighthouse limpet lobster longboat
    lugger mainsail marina mast mussel narwhal nautilus oar osprey otter oyster packet pelican petrel pier pilot pinnace plover
    porpoise port puffin quay raft reef rigging rudder sandpiper schooner scow seal sextant shoal skiff slipway sloop spar
    spinnaker squall starfish stern strait tern tide tiller trawler tugboat urchin wharf whelk wherry windlass yacht yawl
""")


def random_name() -> str:
    """One of 14,000. Whoever finds it taken asks again."""
    return f"{secrets.choice(_ADJECTIVES)}_{secrets.choice(_NOUNS)}"
