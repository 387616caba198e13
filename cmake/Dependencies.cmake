# Third-party libraries, each as an imported target. LibTorch is a target of our own made from the wheel's files: the
# wheel's CMake package needs a CUDA toolkit, these files do not.
find_package(Threads REQUIRED)
find_package(ZLIB REQUIRED)
find_package(OpenSSL REQUIRED)
find_package(absl REQUIRED)
find_package(nlohmann_json REQUIRED)
find_package(PkgConfig REQUIRED)
pkg_check_modules(ISAL REQUIRED IMPORTED_TARGET libisal)
add_library(ISAL::isal ALIAS PkgConfig::ISAL)
pkg_check_modules(YAML_CPP REQUIRED IMPORTED_TARGET yaml-cpp)
pkg_check_modules(SPDLOG REQUIRED IMPORTED_TARGET spdlog)

if(DTRAIN_TORCH)
  if(NOT DTRAIN_PYTHON_ENVIRONMENT)
    execute_process(COMMAND ${PROJECT_SOURCE_DIR}/scripts/setup.sh --print-env OUTPUT_VARIABLE environment
                    OUTPUT_STRIP_TRAILING_WHITESPACE COMMAND_ERROR_IS_FATAL ANY)
    set(DTRAIN_PYTHON_ENVIRONMENT ${environment} CACHE PATH "" FORCE)
  endif()
  file(GLOB torch_root ${DTRAIN_PYTHON_ENVIRONMENT}/lib/python3*/site-packages/torch)
  if(NOT EXISTS ${torch_root}/lib/libtorch_cpu.so)
    message(FATAL_ERROR "No LibTorch under ${DTRAIN_PYTHON_ENVIRONMENT} (looked for lib/python3*/site-packages/torch/lib/libtorch_cpu.so). "
                        "Run scripts/setup.sh, or configure with -DDTRAIN_TORCH=OFF.")
  endif()
  add_library(dtrain_torch_wheel INTERFACE)
  add_library(dtrain::torch ALIAS dtrain_torch_wheel)
  # SYSTEM: warnings of the wheel's headers are not ours.
  target_include_directories(dtrain_torch_wheel SYSTEM INTERFACE ${torch_root}/include ${torch_root}/include/torch/csrc/api/include)
  # libtorch exports old copies of std::filesystem functions whose parts do not fit the system's (remove_all then calls
  # through a null pointer): with libstdc++ before it, the loader finds the system's first.
  target_link_libraries(dtrain_torch_wheel INTERFACE -Wl,--push-state,--no-as-needed,-lstdc++,--pop-state ${torch_root}/lib/libtorch.so ${torch_root}/lib/libtorch_cpu.so ${torch_root}/lib/libc10.so)
  # The OpenMP that LibTorch runs with; a second one would fight it for the cores.
  file(GLOB torch_openmp ${torch_root}/lib/libgomp*.so*)
  target_link_libraries(dtrain_torch_wheel INTERFACE ${torch_openmp})
  target_link_options(dtrain_torch_wheel INTERFACE -Wl,-rpath,${torch_root}/lib)
endif()
