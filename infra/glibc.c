/* Functions that got another version in a glibc later than the one of provided.al2023 (2.34): with this beside it, a
 * program that was linked against the later glibc asks for their first version, which every glibc has. hypot of 2.35
 * differs from the first in speed. Hidden, or the first version would be found here again. */
#define HIDDEN __attribute__((visibility("hidden")))

__asm__(".symver first_hypot, hypot@GLIBC_2.17");
__asm__(".symver first_hypotf, hypotf@GLIBC_2.17");
double first_hypot(double x, double y);
float first_hypotf(float x, float y);

HIDDEN double hypot(double x, double y) { return first_hypot(x, y); }
HIDDEN float hypotf(float x, float y) { return first_hypotf(x, y); }
