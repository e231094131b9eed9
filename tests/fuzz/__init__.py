"""A differential fuzzer: random quantum functions, called and differentiated in random ways, on
random devices, against a reference that shares no code with qshift or PennyLane.

    make fuzz MINUTES=10         random seeds
    make fuzz SEED=7             these cases again
    make fuzz FUZZ_ARGS="--only tapes shots"

What a case is:

    case            a case as data: arguments, gates, measurements, mode, device
    expressions     angles as functions of the arguments
    draw            a seed -> a case, with draw_angles, draw_gates, draw_measurements
    modes           how a case is called and differentiated, and what is right then

What is right:

    jets            numbers that carry their derivatives
    matrices, gates, templates, own    every gate as a product of exponentials
    states, observables, reference     state vectors, branches for mid-circuit outcomes

What runs:

    source, calls   a case as a quantum function in Python
    script          a case as a script that runs by itself; the fuzzer runs the same code
    compare         results and what is right
    runner          one case in this process
    shrink          a case that fails -> the smallest one that fails in the same way
    session, report many cases, in a process that is watched; what was found and covered

A new gate is a line in `gates` and one in `draw_gates`; a new mode is a subclass of `Mode`.
"""
