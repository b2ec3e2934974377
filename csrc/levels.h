// Which of the SIMD levels that the kernels were compiled for this processor has.
#pragma once

namespace lossfold {

enum class Level { baseline, v3, v4 };

inline Level level() {
#if defined(LOSSFOLD_X86_LEVELS)
  static const bool v3 = __builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma") && __builtin_cpu_supports("bmi2") &&
                         __builtin_cpu_supports("f16c");
  static const bool v4 = v3 && __builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512bw") &&
                         __builtin_cpu_supports("avx512cd") && __builtin_cpu_supports("avx512dq") && __builtin_cpu_supports("avx512vl");
  if (v4) return Level::v4;
  if (v3) return Level::v3;
#endif
  return Level::baseline;
}

}  // namespace lossfold
