"""
The soak: real clients and servers for minutes or hours, faults among them, everything counted.

    board         what is served
    guests        who talks to it, and what they hold against it
    ledger        what must hold, whoever saw it: the counts, the histories, the faults that explain an error
    services      the servers and what they weigh: memory, file descriptors, tasks
    growth        whether that is flat
    churn, steady the shapes
"""
