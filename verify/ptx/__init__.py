"""Compiled programs, judged on a CPU: PTX is run thread by thread under adversarial orders, and its rules are checked."""
