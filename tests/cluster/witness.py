#!/usr/bin/python3
# A witness client: waits to be told that an address is gone
#
# SPDX-License-Identifier: GPL-3.0-or-later
#
# usage: witness.py HOST USER PASSWORD NETNAME ADDRESS SECONDS
#
# Registers ([MS-SWN] 3.1.4.5, RegisterEx) with the witness service of HOST
# for ADDRESS and prints a line for each notification. A program of its own,
# since a call that waits holds up all of python.

import os
import sys
import time

sys.path.insert(0, os.path.dirname(os.path.abspath(__file__)))
from clusterlab import phlab	# noqa: E402

STATES = {0: "unknown", 1: "available", 255: "unavailable"}


def main():
    host, user, password, name, address, seconds = sys.argv[1:]
    phlab.setup_python()
    from samba import WERRORError, credentials, param
    from samba.dcerpc import witness
    lp = param.LoadParm()
    lp.set("client use kerberos", "off")
    creds = credentials.Credentials()
    creds.set_username(user)
    creds.set_password(password)
    creds.set_domain("WORKGROUP")
    creds.set_workstation("ANN")
    creds.set_kerberos_state(credentials.DONT_USE_KERBEROS)
    conn = witness.witness("ncacn_ip_tcp:%s[sign]" % host, lp, creds)
    conn.request_timeout = int(seconds)
    context = conn.RegisterEx(witness.WITNESS_V2, name, None, address, "ann",
                              witness.WITNESS_REGISTER_NONE, int(seconds))
    print("registered", flush=True)
    while True:
        try:
            answer = conn.AsyncNotify(context)
        except WERRORError:
            print("over", flush=True)	# the registration went with it
            return
        for m in answer.messages:
            print("%.3f %s %s" % (time.monotonic(), getattr(m, "name", m),
                                  STATES.get(getattr(m, "type", 0), "?")),
                  flush=True)


if __name__ == "__main__":
    main()
