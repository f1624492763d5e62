# What is packed: a program, a library, a script, links, and the files by which a vendor reaches into the system.
mkdir -p bin tree/opt/acme tree/usr/bin tree/usr/lib/udev/rules.d tree/usr/lib/systemd/system tree/etc/ld.so.conf.d
printf 'int f(void){return 1;}\n' >f.c
printf 'int f(void); const char*d="/opt/acme/x.so"; void _start(void){f();}\n' >p.c
if command -v gcc >/dev/null; then
    gcc -Os -s -nostdlib -shared -fPIC -Wl,-soname,libf.so.1 -Wl,-z,noseparate-code,-z,max-page-size=16 -o bin/libf.so f.c
    gcc -Os -s -nostdlib -Wl,-z,noseparate-code,-z,max-page-size=16 -o bin/prog p.c bin/libf.so
else
    printf '\177ELF' >bin/libf.so
    cp bin/libf.so bin/prog
fi
cp bin/prog bin/libf.so tree/opt/acme/
printf '#!/bin/sh\nexec /opt/acme/prog "$@"\n' >tree/usr/bin/acme
chmod 755 tree/usr/bin/acme tree/opt/acme/prog
ln -s ../../opt/acme/prog tree/usr/bin/prog
ln tree/opt/acme/libf.so tree/opt/acme/libf.so.1
printf 'SUBSYSTEM=="usb", ATTR{idVendor}=="1234", ATTR{idProduct}=="5678", MODE="0666"\n' \
    >tree/usr/lib/udev/rules.d/70-acme.rules
printf '[Unit]\nDescription=Acme\n[Service]\nExecStart=/opt/acme/prog -d\nUser=acme\n[Install]\nWantedBy=multi-user.target\n' \
    >tree/usr/lib/systemd/system/acme.service
printf '/opt/acme\n' >tree/etc/ld.so.conf.d/acme.conf
