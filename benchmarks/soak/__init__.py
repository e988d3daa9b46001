"""
The soak: real clients and servers for minutes or hours, faults among them, everything counted.

    board         what is served
    lines         connections to it, and what they hold against each frame
    guests        who talks over them, and remembers
    ledger        what must hold, whoever saw it: the counts, the histories, the faults that explain an error
    services      the servers and what they weigh: memory, file descriptors, tasks
    growth        whether that is flat
    churn, steady the shapes
"""
