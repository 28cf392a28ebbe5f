"""The pure floor: what the mail RFCs say, without Django, sockets, clocks or hidden randomness."""
