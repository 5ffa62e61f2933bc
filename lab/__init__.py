"""A wide-area network in a box: real hosts, real packets, known true delays."""
