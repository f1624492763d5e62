cp bin/prog "$OUT/dynamic"
cp bin/libf.so "$OUT/shared.so"
printf 'V1 { global: f; }; V2 { global: g; } V1;\n' >versions
printf 'int f(void){return 1;} int g(void){return 2;}\n' >g.c
printf 'int g(void); __thread int t; char*a="https://acme.example/api"; char*b="/dev/ttyUSB0"; int main(void){return t+g();}\n' >m.c
for bits in 64 32; do
    link="-m$bits -Os -s -nostdlib -Wl,-z,noseparate-code"
    gcc $link -shared -fPIC -fno-stack-protector -Wl,-soname,libv.so.1,--version-script,versions -o "bin/libv$bits.so" g.c || continue
    cp "bin/libv$bits.so" "$OUT/versions$bits.so"
    gcc $link -fno-pic -no-pie -fno-stack-protector -o "$OUT/needs$bits" m.c "bin/libv$bits.so" \
        -Wl,-e,main,-rpath,/opt/acme/lib:\$ORIGIN/../lib
    gcc $link -static -fno-pic -fno-stack-protector -o "$OUT/static$bits" f.c -Wl,-e,f
    gcc "-m$bits" -Os -c -o "$OUT/object$bits.o" g.c
done
# A program of the usual kind, with libc and its versions.
printf '#include <stdio.h>\n#include <dlfcn.h>\nint main(void){puts("/etc/acme.conf");return !dlopen("libacme.so.2",1);}\n' >c.c
gcc -Os -s -Wl,-z,noseparate-code -o "$OUT/usual" c.c
gcc -Os -s -Wl,-z,noseparate-code,-z,now,--disable-new-dtags,-rpath,/opt/x -o "$OUT/usual-rpath" c.c
gcc -Os -static-pie -nostdlib -s -Wl,-z,noseparate-code,-z,execstack -o "$OUT/static-pie" f.c -Wl,-e,f
# Notes: what is loaded at run time, the kernel, the processor.
cat >n.c <<'C'
__attribute__((section(".note.dlopen"),aligned(4),used)) static const struct { unsigned n,d,t; char name[4]; char json[80]; }
note = { 4, 80, 0x407c0c0a, "FDO", "[{\"feature\":\"usb\",\"priority\":\"required\",\"soname\":[\"libusb-1.0.so.0\"]}]" };
__attribute__((section(".note.ABI-tag"),aligned(4),used)) static const struct { unsigned n,d,t; char name[4]; unsigned v[4]; }
abi = { 4, 16, 1, "GNU", {0,3,2,0} };
int f(void){return note.n+abi.n;}
C
gcc -Os -s -nostdlib -shared -fPIC -Wl,-z,noseparate-code,--build-id=sha1,-z,x86-64-v3 -o "$OUT/notes.so" n.c
# A kernel module as modpost leaves it.
cat >k.c <<'C'
__attribute__((section(".modinfo"),used)) static const char info[] =
    "license=Proprietary\0" "alias=usb:v1234p5678d*dc*dsc*dp*ic*isc*ip*in*\0" "depends=usbcore\0" "parm=debug:level (int)\0"
    "firmware=acme/fw.bin\0" "vermagic=6.1.0-18-amd64 SMP preempt mod_unload modversions \0" "name=acme";
__attribute__((section("__versions"),used)) static const struct { unsigned long crc; char name[56]; }
versions[] = { {0x12345678, "module_layout"}, {0x9abcdef0, "usb_register_driver"} };
int usb_register_driver(void); int init_module(void){return usb_register_driver();}
C
gcc -Os -c -fno-pic -o "$OUT/module.ko" k.c
printf '~Module signature appended~\n' | cat "$OUT/module.ko" - >"$OUT/signed.ko"
# Something appended.
(cd tree && tar -czf ../payload.tgz --owner=0 --group=0 usr)
cat bin/prog payload.tgz >"$OUT/appended"
