// Which of the SIMD levels that the kernels were compiled for is used: the highest that this processor has, or the one that the
// environment names in LOSSFOLD_SIMD.
#pragma once

#include <cstdlib>
#include <stdexcept>
#include <string>

#if defined(LOSSFOLD_X86_LEVELS)
#include <cpuid.h>
#endif

namespace lossfold {

enum class Level { baseline, v3, v4 };
constexpr const char* level_words[] = {"baseline", "v3", "v4"};  // as the environment names them

// The processor is asked itself: clang before 17 refuses __builtin_cpu_supports("f16c"), and lzcnt and movbe have no name there.
inline Level highest_level() {
#if defined(LOSSFOLD_X86_LEVELS)
  unsigned eax = 0, ebx = 0, ecx = 0, edx = 0;
  const auto all = [](unsigned found, unsigned bits) { return (found & bits) == bits; };
  constexpr unsigned fma = 1u << 12, movbe = 1u << 22, osxsave = 1u << 27, avx = 1u << 28, f16c = 1u << 29;
  if (!__get_cpuid(1, &eax, &ebx, &ecx, &edx) || !all(ecx, fma | movbe | osxsave | avx | f16c)) return Level::baseline;
  constexpr unsigned lzcnt = 1u << 5;
  if (!__get_cpuid(0x80000001, &eax, &ebx, &ecx, &edx) || !all(ecx, lzcnt)) return Level::baseline;
  constexpr unsigned bmi1 = 1u << 3, avx2 = 1u << 5, bmi2 = 1u << 8;
  constexpr unsigned avx512 = 1u << 16 | 1u << 17 | 1u << 28 | 1u << 30 | 1u << 31;  // f, dq, cd, bw, vl
  if (!__get_cpuid_count(7, 0, &eax, &ebx, &ecx, &edx) || !all(ebx, bmi1 | avx2 | bmi2)) return Level::baseline;
  unsigned saved = 0, rest = 0;  // which registers the system saves: xmm and ymm, then the masks and zmm
  __asm__ volatile("xgetbv" : "=a"(saved), "=d"(rest) : "c"(0));
  constexpr unsigned ymm = 0x6, zmm = 0xe6;
  if (!all(saved, ymm)) return Level::baseline;
  return all(ebx, avx512) && all(saved, zmm) ? Level::v4 : Level::v3;
#else
  return Level::baseline;
#endif
}

inline std::string words_up_to(Level highest) {
  std::string words;
  for (int i = 0; i <= static_cast<int>(highest); ++i) words += (i ? " " : "") + std::string(level_words[i]);
  return words;
}

inline Level chosen_level() {
  const Level highest = highest_level();
  const char* const word = std::getenv("LOSSFOLD_SIMD");
  if (word == nullptr || *word == '\0') return highest;
  for (int i = 0; i <= static_cast<int>(highest); ++i)
    if (level_words[i] == std::string(word)) return static_cast<Level>(i);
  throw std::runtime_error("LOSSFOLD_SIMD is '" + std::string(word) + "'; what this processor and this build have: " + words_up_to(highest));
}

inline Level level() {
  static const Level chosen = chosen_level();
  return chosen;
}

}  // namespace lossfold
