// What is shown of the configuration: the table of keys for people (--help, the reference page) and for editors (JSON
// schema), and a run's own configuration. All from keys.h. Pure functions; safe to call from any thread.
#pragma once
#include <string>
#include <string_view>

#include "trainer/config/config.h"

namespace dtrain {

// One line a key: name, what it takes, default, help. Only those at and under `section` if it is not empty ("optim",
// "data.batch"); empty text if there is no such section.
std::string RenderKeys(std::string_view section);

// JSON schema, draft 2020-12, for editors that check and complete YAML.
std::string RenderSchema();

// docs/configuration.md.
std::string RenderReference();

// One line a key: "optim.lr = 0.05"; with `origin` who set it behind.
std::string RenderConfig(const Config& config, bool origin);

}  // namespace dtrain
