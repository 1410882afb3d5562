"""Wrong, odd and damaged requests against a running instance: never a 500, never a hang, and nothing that is left afterwards.

    wire       a request as bytes, and the door that it goes through
    mutation   JSON, text and bytes that are almost right
    damage     HTTP that is not
    docker     requests made from the Docker API's own router
    rest       from the OpenAPI document, by schemathesis
    pages      from the addresses and forms of the panel
    watch      what the instance takes of the machine, before and after
    run        clients, findings, report

``python -m tests.fuzz --requests 100000 --seed N``. What a parser of ours does with odd bytes is asked beside the parser (hypothesis, in
tests/engine); here it is asked of the whole.
"""
