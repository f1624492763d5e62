# A tetrahedron as text and as binary.
cat > "$OUT/text.stl" <<'S'
solid t
facet normal 0 0 0
outer loop
vertex 0 0 0
vertex 0 1 0
vertex 1 0 0
endloop
endfacet
facet normal 0 0 0
outer loop
vertex 0 0 0
vertex 1 0 0
vertex 0 0 1
endloop
endfacet
facet normal 0 0 0
outer loop
vertex 0 0 0
vertex 0 0 1
vertex 0 1 0
endloop
endfacet
facet normal 0 0 0
outer loop
vertex 1 0 0
vertex 0 1 0
vertex 0 0 1
endloop
endfacet
endsolid t
S
python3 - "$OUT" <<'S'
import struct, sys
o, x, y, z = (0, 0, 0), (1, 0, 0), (0, 1, 0), (0, 0, 1)
body = b"".join(struct.pack("<12fH", 0, 0, 0, *a, *b, *c, 0) for a, b, c in [(o, y, x), (o, x, z), (o, z, y), (x, y, z)])
open(sys.argv[1] + "/binary.stl", "wb").write(b"binary".ljust(80) + struct.pack("<I", 4) + body)
text = b'{"periods":1,"channels":2,"samples":4,"sample":"int16","conversion":[[0.5,0],[2,1]],"bandwidth":1.0,"base-frequency":2.0,"dividers":[2],"strengths":[0.01]}'
head = lambda kind, length: b"HWFRM\0\0\x01" + struct.pack("<HHI4Q", kind, 0, length, 0, 1, 2, 3)
open(sys.argv[1] + "/stream.frames", "wb").write(head(1, len(text)) + text + head(2, 16) + bytes(range(16)))
S
