mkdir -p deb/DEBIAN
cp -a tree/. deb/
cat >deb/DEBIAN/control <<'C'
Package: acme-scope
Version: 1.2-3
Architecture: amd64
Maintainer: Acme <a@example.org>
Depends: libc6 (>= 2.14), libusb-1.0-0 | libusb-dev
Recommends: udev
Conflicts: acme
Section: misc
Description: scope driver
 for scopes
C
printf '/etc/ld.so.conf.d/acme.conf\n' >deb/DEBIAN/conffiles
printf '#!/bin/sh\nset -e\nif [ "$1" = configure ]; then\n  ldconfig\n  adduser --system acme\n  systemctl enable acme\n  cp /opt/acme/x /etc/udev/rules.d/\nfi\n' >deb/DEBIAN/postinst
printf 'activate-noawait ldconfig\n' >deb/DEBIAN/triggers
chmod 755 deb/DEBIAN/postinst
for compressor in none gzip xz zstd; do
    dpkg-deb --root-owner-group --uniform-compression -Z$compressor -b deb "$OUT/$compressor.deb" || continue
done
mkdir -p small/DEBIAN
cp deb/DEBIAN/control small/DEBIAN/
dpkg-deb --root-owner-group --uniform-compression -Znone -b small "$OUT/small.deb"
