# A service on a bus: takes the names it is given and answers every call with nothing. D-Bus' own protocol, since no
# binding for Python is needed anywhere else.
import os
import socket
import struct
import sys

bus = socket.socket(socket.AF_UNIX)
bus.connect(sys.argv[1].removeprefix("unix:path=").replace("unix:abstract=", "\0"))
bus.sendall(b"\0AUTH EXTERNAL " + str(os.getuid()).encode().hex().encode() + b"\r\n")
assert bus.recv(4096).startswith(b"OK")
bus.sendall(b"BEGIN\r\n")
serial = 0


def string(text):
    return struct.pack("<I", len(text)) + text.encode() + b"\0"


def padded(data, to=8):
    return data + b"\0" * (-len(data) % to)


def send(kind, fields, signature="", body=b""):
    global serial
    serial += 1
    if signature:
        fields = fields + [(8, "g", signature)]
    packed = b""
    for code, sort, value in fields:
        packed = padded(packed) + struct.pack("<BB", code, 1) + sort.encode() + b"\0"
        if sort == "u":
            packed = padded(packed, 4) + struct.pack("<I", value)
        elif sort == "g":
            packed += bytes([len(value)]) + value.encode() + b"\0"
        else:
            packed = padded(packed, 4) + string(value)
    head = struct.pack("<cBBBIII", b"l", kind, 0, 1, len(body), serial, len(packed))
    bus.sendall(padded(head + packed) + body)


def call(member, signature="", body=b""):
    name = "org.freedesktop.DBus"
    send(1, [(1, "o", "/org/freedesktop/DBus"), (2, "s", name), (3, "s", member), (6, "s", name)], signature, body)


def exactly(count):
    data = b""
    while len(data) < count:
        more = bus.recv(count - len(data))
        if not more:
            sys.exit(0)
        data += more
    return data


def receive():
    head = exactly(16)
    kind, length, number, size = head[1], *struct.unpack("<III", head[4:])
    fields, at, sender = exactly(size + -(16 + size) % 8), 0, None
    exactly(length)
    while at < size:
        at += -at % 8
        code, sort = fields[at], chr(fields[at + 2])
        at += 4
        if sort == "g":
            at += fields[at] + 2
            continue
        at += -at % 4
        value = struct.unpack_from("<I", fields, at)[0]
        if code == 7:
            sender = fields[at + 4 : at + 4 + value].decode()
        at += 4 if sort == "u" else 5 + value
    return kind, number, sender


call("Hello")
for name in sys.argv[2:]:
    body = padded(string(name), 4) + struct.pack("<I", 0)
    call("RequestName", "su", body)
answers = 0
while True:
    kind, number, sender = receive()
    if kind == 2:
        answers += 1
        if answers == len(sys.argv) - 1:
            print("ready", flush=True)
    if kind == 1:
        send(2, [(5, "u", number), (6, "s", sender)])
