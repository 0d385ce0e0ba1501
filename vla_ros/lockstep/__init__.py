"""The strip in virtual time: replay of bags and the simulator in lock step, without a graph or a clock."""
