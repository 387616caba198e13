# dtrain_test(NAME FILES... LIBS... [LABELS ...] [SERIAL]): one GoogleTest program, each of its tests a CTest test.
# LABELS say what a run of a part may choose: a folder's name is always one of them.
function(dtrain_test name)
  cmake_parse_arguments(arg "SERIAL" "" "FILES;LIBS;LABELS" ${ARGN})
  add_executable(${name} ${arg_FILES})
  target_link_libraries(${name} PRIVATE ${arg_LIBS} GTest::gmock GTest::gtest_main)
  target_include_directories(${name} PRIVATE ${PROJECT_SOURCE_DIR})
  get_filename_component(folder ${CMAKE_CURRENT_SOURCE_DIR} NAME)
  set(properties LABELS "${folder};${arg_LABELS}" TIMEOUT 120)
  if(arg_SERIAL)
    list(APPEND properties RUN_SERIAL TRUE)
  endif()
  gtest_discover_tests(${name} DISCOVERY_TIMEOUT 60 PROPERTIES ${properties})
endfunction()
