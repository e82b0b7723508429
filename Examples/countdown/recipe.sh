#!/bin/sh
# Makes the channels and the tuned policy from countdown.gguf, the policy that policy.py trained. Run it in this folder, with sla on the PATH.
