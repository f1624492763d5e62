/* Kaczmarz's method row after row, as a plain loop.
 *
 * rows MATRIX DATA ROWS COLUMNS reads complex numbers of two little-endian singles and answers lines
 * `run ROWS SWEEPS` with the nanoseconds of the solution of the first frame with the first rows. */
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

static const float lambda = 1.0f;

static float *read_floats(const char *path, size_t count)
{
    float *values = malloc(count * sizeof *values);
    FILE *file = fopen(path, "rb");
    if (!values || !file || fread(values, sizeof *values, count, file) != count) {
        fprintf(stderr, "cannot read %zu numbers of %s\n", count, path);
        exit(1);
    }
    fclose(file);
    return values;
}

static void row_step(const float *restrict a, const float *restrict b, float *restrict x, float *restrict v,
                     float inverse, size_t columns)
{
    const float epsilon = sqrtf(lambda);
    float re = 0, im = 0;
    for (size_t n = 0; n < columns; n++) {
        re += a[2 * n] * x[2 * n] - a[2 * n + 1] * x[2 * n + 1];
        im += a[2 * n] * x[2 * n + 1] + a[2 * n + 1] * x[2 * n];
    }
    const float alpha_re = inverse * (b[0] - re - epsilon * v[0]);
    const float alpha_im = inverse * (b[1] - im - epsilon * v[1]);
    for (size_t n = 0; n < columns; n++) {
        x[2 * n] += alpha_re * a[2 * n] + alpha_im * a[2 * n + 1];
        x[2 * n + 1] += alpha_im * a[2 * n] - alpha_re * a[2 * n + 1];
    }
    v[0] += epsilon * alpha_re;
    v[1] += epsilon * alpha_im;
}

static void solve(const float *a, const float *b, float *x, float *v, const float *inverse, size_t rows,
                  size_t columns, int sweeps)
{
    memset(x, 0, 2 * columns * sizeof *x);
    memset(v, 0, 2 * rows * sizeof *v);
    for (int sweep = 0; sweep < sweeps; sweep++) {
        for (size_t k = 0; k < rows; k++)
            row_step(a + 2 * k * columns, b + 2 * k, x, v + 2 * k, inverse[k], columns);
        for (size_t n = 0; n < columns; n++) {
            x[2 * n] = x[2 * n] > 0 ? x[2 * n] : 0;
            x[2 * n + 1] = 0;
        }
    }
}

int main(int argc, char **argv)
{
    if (argc != 5)
        return 1;
    const size_t rows = strtoul(argv[3], NULL, 10), columns = strtoul(argv[4], NULL, 10);
    float *a = read_floats(argv[1], 2 * rows * columns), *b = read_floats(argv[2], 2 * rows);
    float *x = malloc(2 * columns * sizeof *x), *v = malloc(2 * rows * sizeof *v);
    float *inverse = malloc(rows * sizeof *inverse);
    if (!x || !v || !inverse)
        return 1;
    for (size_t k = 0; k < rows; k++) {
        double norm = 0;
        for (size_t n = 0; n < 2 * columns; n++)
            norm += (double)a[2 * k * columns + n] * a[2 * k * columns + n];
        inverse[k] = (float)(1.0 / (norm + lambda));
    }
    size_t some;
    int sweeps;
    while (scanf(" run %zu %d", &some, &sweeps) == 2 && some <= rows) {
        struct timespec start, end;
        clock_gettime(CLOCK_MONOTONIC, &start);
        solve(a, b, x, v, inverse, some, columns, sweeps);
        clock_gettime(CLOCK_MONOTONIC, &end);
        printf("%lld\n", (end.tv_sec - start.tv_sec) * 1000000000LL + (end.tv_nsec - start.tv_nsec));
        fflush(stdout);
    }
    return 0;
}
