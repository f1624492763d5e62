cat >w.c <<'C'
#include <windows.h>
__declspec(dllexport) int acme(void) { return MessageBoxA(0, "C:\\Acme\\x.dll", "http://acme.example", 0); }
void start(void) { acme(); ExitProcess(0); }
int dll(void *a, unsigned b, void *c) { return acme() != 7; }
C
cat >r.rc <<'C'
1 VERSIONINFO
FILEVERSION 1,2,3,4
BEGIN
  BLOCK "StringFileInfo"
  BEGIN
    BLOCK "040904B0"
    BEGIN
      VALUE "CompanyName", "Acme"
      VALUE "FileVersion", "1.2.3.4"
      VALUE "ProductName", "Scope"
    END
  END
  BLOCK "VarFileInfo"
  BEGIN
    VALUE "Translation", 0x409, 0x4B0
  END
END
1 24 { "<assembly xmlns=""urn:schemas-microsoft-com:asm.v1"" manifestVersion=""1.0""><trustInfo><security><requestedPrivileges><requestedExecutionLevel level=""requireAdministrator""/></requestedPrivileges></security></trustInfo></assembly>" }
C
x86_64-w64-mingw32-windres r.rc r.o
link="-Os -s -nostdlib -lkernel32 -luser32"
x86_64-w64-mingw32-gcc w.c r.o -o "$OUT/gui.exe" -mwindows -Wl,-e,start $link
x86_64-w64-mingw32-gcc w.c -o "$OUT/console.exe" -Wl,-e,start $link
x86_64-w64-mingw32-gcc w.c -o "$OUT/library.dll" -shared -Wl,-e,dll $link
x86_64-w64-mingw32-gcc w.c -o "$OUT/native.sys" -Wl,--subsystem,native,-e,start $link
if command -v i686-w64-mingw32-gcc >/dev/null; then
    i686-w64-mingw32-gcc w.c -o "$OUT/console32.exe" -Wl,-e,_start $link
fi
(cd tree && tar -czf ../payload.tgz --owner=0 --group=0 usr)
cat "$OUT/console.exe" payload.tgz >"$OUT/appended.exe"
