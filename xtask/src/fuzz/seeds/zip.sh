mkdir -p wheel/acme wheel/acme-1.0.dist-info
printf 'import acme.x\n' >wheel/acme/__init__.py
cp bin/libf.so wheel/acme/x.so
printf 'Metadata-Version: 2.1\nName: acme\nVersion: 1.0\nRequires-Dist: numpy>=1; extra == "x"\nRequires-Python: >=3.8\n' >wheel/acme-1.0.dist-info/METADATA
printf 'Wheel-Version: 1.0\nRoot-Is-Purelib: false\nTag: cp311-cp311-manylinux_2_17_x86_64\n' >wheel/acme-1.0.dist-info/WHEEL
printf '[console_scripts]\nacme = acme:main\n' >wheel/acme-1.0.dist-info/entry_points.txt
(cd wheel && zip -q -X -r "$OUT/deflated.whl" . && zip -q -X -0 -r "$OUT/stored.whl" .)
(cd tree && zip -q -r "$OUT/unix.zip" usr && zip -q -X -y -0 -r "$OUT/links.zip" usr)
(cd tree && zip -q -r - usr | cat >"$OUT/streamed.zip")
(cd tree && zip -q -fz -X -0 -r "$OUT/zip64.zip" usr/bin)
mkdir -p jar/META-INF
printf 'Manifest-Version: 1.0\r\nMain-Class: com.acme.Main\r\nClass-Path: lib/a.jar\r\n' >jar/META-INF/MANIFEST.MF
printf '\312\376\272\276\0\0\0\64' >jar/Main.class
(cd jar && zip -q -X -r "$OUT/acme.jar" .)
