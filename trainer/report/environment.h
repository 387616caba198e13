// What a result may depend on beside the configuration: host, kernel, processor, memory, command line. For env.json.
#pragma once
#include <span>
#include <string>
#include <string_view>

#include "base/value.h"

namespace dtrain {

// {version, started_at, host, kernel, cpu_model, cpu_flags, cores, memory_bytes, command_line, working_directory,
// variables}. What the system does not tell is null. `cpu_flags` are those that choose kernels (avx2, fma, ...);
// `variables` is the environment's DTRAIN_* and OMP_*, without anything secret (DTRAIN_TOKEN and the like).
Value DescribeEnvironment(std::string_view version, double wall_seconds, std::span<const std::string> command_line);

// Of lines as in /proc/cpuinfo: {cpu_model, cpu_flags}. For DescribeEnvironment and its tests.
Value DescribeProcessor(std::string_view cpuinfo);

// The part of `environment` ("NAME=value" each) that may be recorded. For DescribeEnvironment and its tests.
Value::Map RecordedVariables(std::span<const std::string> environment);

}  // namespace dtrain
