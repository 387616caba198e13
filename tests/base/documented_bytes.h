// The examples in bytes of the documentation, so that a test can hold a page to what the program does.
#pragma once
#include <cstddef>
#include <fstream>
#include <string>
#include <vector>

#include "base/status.h"

namespace dtrain {

// The bytes of the block that follows the line "<!-- bytes: `name` -->" in a page: between two lines of ```, as xxd
// prints them ("00000010: 0123 4567 ...  text").
inline StatusOr<std::vector<std::byte>> DocumentedBytes(const std::string& path, const std::string& name) {
  std::ifstream page(path);
  if (!page) return NotFound("read ", path);
  std::string line;
  while (std::getline(page, line) && line != Cat("<!-- bytes: ", name, " -->")) {
  }
  std::getline(page, line);
  if (!line.starts_with("```")) return NotFound("read ", path, ": no block of bytes called ", name);
  std::string digits;
  while (std::getline(page, line) && line != "```") {
    if (line.size() < 10 || line[8] != ':') return InvalidArgument("read ", path, ": not a line of xxd: ", line);
    const std::string columns = line.substr(10, 39);
    for (const char c : columns.substr(0, columns.find("  "))) {
      if (c != ' ') digits += c;
    }
  }
  std::vector<std::byte> bytes;
  for (size_t at = 0; at + 2 <= digits.size(); at += 2)
    bytes.push_back(static_cast<std::byte>(std::stoi(digits.substr(at, 2), nullptr, 16)));
  return bytes;
}

}  // namespace dtrain
